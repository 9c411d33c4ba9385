/* The floor: libjpeg-turbo decodes every JPEG of a list to RGB into one reused buffer, in several processes, and keeps
 * nothing. Build: cc -O3 decode_loop.c -o decode_loop -lturbojpeg. Run: decode_loop LIST PROCESSES; LIST has a path a
 * line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <turbojpeg.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int decode_part(char **paths, int count, int part, int parts) {
    tjhandle handle = tjInitDecompress();
    unsigned char *file = NULL, *pixels = NULL;
    size_t file_room = 0, pixel_room = 0;
    int failed = 0;
    for (int i = part; i < count; i += parts) {
        FILE *f = fopen(paths[i], "rb");
        if (!f) { failed++; continue; }
        fseek(f, 0, SEEK_END);
        size_t length = ftell(f);
        rewind(f);
        if (length > file_room) file = realloc(file, file_room = 2 * length);
        size_t got = fread(file, 1, length, f);
        fclose(f);
        int width, height, sampling, colours;
        if (got != length || tjDecompressHeader3(handle, file, length, &width, &height, &sampling, &colours)) { failed++; continue; }
        size_t need = (size_t)3 * width * height;
        if (need > pixel_room) pixels = realloc(pixels, pixel_room = 2 * need);
        failed += tjDecompress2(handle, file, length, pixels, width, 0, height, TJPF_RGB, 0) != 0;
    }
    return failed ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *list = fopen(argv[1], "r");
    if (!list) return 2;
    char line[4096], **paths = NULL;
    int count = 0;
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        paths = realloc(paths, (count + 1) * sizeof *paths);
        paths[count++] = strdup(line);
    }
    int parts = atoi(argv[2]), bad = 0, status;
    double begun = now();
    for (int part = 0; part < parts; part++)
        if (!fork()) _exit(decode_part(paths, count, part, parts));
    while (wait(&status) > 0) bad |= status;
    printf("{\"n\": %d, \"wall_s\": %.4f}\n", count, now() - begun);
    return bad ? 1 : 0;
}
