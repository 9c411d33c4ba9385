// What a C loop reaches that gathers samples into one reused batch and checksums them: batches of 256 in a random
// order, two passes a sample (CRC-32 of the payload where it lies, then the copy).
// gcc -O3 -march=native -fopenmp gather_crc.c -o gather_crc -ldeflate
// gather_crc THREADS FILE  ->  one line of JSON; FILE holds 224x224x3 samples one after the other.
#include <fcntl.h>
#include <libdeflate.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLE = 3 * 224 * 224, BATCH = 256, BATCHES = 16, ROUNDS = 7 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int count, char **words) {
  if (count != 3) return fprintf(stderr, "usage: gather_crc THREADS FILE\n"), 2;
  omp_set_num_threads(atoi(words[1]));
  int file = open(words[2], O_RDONLY);
  struct stat stat;
  if (file < 0 || fstat(file, &stat) != 0) return perror(words[2]), 2;
  size_t samples = stat.st_size / SAMPLE;
  const uint8_t *data = mmap(NULL, stat.st_size, PROT_READ, MAP_SHARED, file, 0);
  if (data == MAP_FAILED || samples == 0) return perror(words[2]), 2;
  uint8_t *batch = aligned_alloc(1 << 21, (size_t)((BATCH * SAMPLE >> 21) + 1) << 21);
  memset(batch, 1, (size_t)BATCH * SAMPLE);
  uint64_t state = 88172645463325252u;
  static size_t order[BATCHES * BATCH];
  for (size_t i = 0; i < BATCHES * BATCH; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    order[i] = state % samples;
  }
  double rates[2][ROUNDS];
  uint32_t sum = 0;
  for (int round = -1; round < ROUNDS; round++)
    for (int checks = 0; checks < 2; checks++) {
      double begun = now();
      for (int b = 0; b < BATCHES; b++) {
#pragma omp parallel for schedule(static) reduction(^ : sum)
        for (int i = 0; i < BATCH; i++) {
          const uint8_t *sample = data + order[b * BATCH + i] * SAMPLE;
          if (checks) sum ^= libdeflate_crc32(0, sample, SAMPLE);
          memcpy(batch + (size_t)i * SAMPLE, sample, SAMPLE);
        }
      }
      if (round >= 0) rates[checks][round] = BATCHES * BATCH / (now() - begun);
    }
  for (int checks = 0; checks < 2; checks++) qsort(rates[checks], ROUNDS, sizeof(double), by_value);
  printf("{\"gather_u8_img_s\": %.0f, \"gather_crc_u8_img_s\": %.0f, \"sum\": %u}\n", rates[0][ROUNDS / 2],
         rates[1][ROUNDS / 2], sum);
}
