//! A child process that is heard with patience of known length and never outlives its owner.
//!
//! Threads of its own read its output and feed its input, so no pipe can fill up and stop both sides. Left out: what
//! the lines mean.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::JavaProgram;
use crate::CocoevalError;

/// Of a program's error output, so many bytes at its end are kept.
const STDERR_BYTES_MAX: usize = 2_000;
/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running Java program; dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    metric: &'static str,
    child: Child,
    timeout: Duration,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts `java -jar -Xmx… jar arguments` in the jar's folder.
    pub(super) fn start(
        metric: &'static str,
        program: &JavaProgram,
        arguments: &[&std::ffi::OsStr],
    ) -> Result<Self, CocoevalError> {
        let failed = |source| CocoevalError::JavaStart { metric, program: program.java.clone(), source };
        let jar = std::path::absolute(&program.jar).map_err(failed)?;
        let mut command = Command::new(&program.java);
        command.arg("-jar").arg(format!("-Xmx{}", program.heap)).arg(&jar).args(arguments);
        if let Some(folder) = jar.parent() {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if !line.is_ok_and(|line| sender.send(line).is_ok()) {
                    break;
                }
            }
        });
        let stderr = Some(std::thread::spawn(move || tail(stderr)));
        Ok(Self { metric, child, timeout: program.timeout, lines, stderr })
    }

    /// A way to write lines to the program. Its input is closed when the feeder is dropped.
    pub(super) fn feeder(&mut self) -> Feeder {
        let (sender, receiver) = channel::<Vec<String>>();
        let stdin = self.child.stdin.take();
        std::thread::spawn(move || {
            let Some(mut stdin) = stdin else { return };
            for mut line in receiver.into_iter().flatten() {
                line.push('\n');
                // A program that no longer reads is found out by its answers.
                if stdin.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Feeder { sender }
    }

    /// The next line of the program's output.
    pub(super) fn line(&mut self) -> Result<String, CocoevalError> {
        match self.lines.recv_timeout(self.timeout) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(self.timed_out()),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended("ended before it had answered")),
        }
    }

    /// Waits until the program has ended by itself.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, CocoevalError> {
        drop(self.child.stdin.take());
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if start.elapsed() > self.timeout => return Err(self.timed_out()),
                Ok(None) => std::thread::sleep(POLL),
                Err(error) => return Err(self.ended(&format!("cannot be waited for ({error})"))),
            }
        }
    }

    /// The error of a program that said or did something that makes no sense. Kills it.
    pub(super) fn ended(&mut self, what: &str) -> CocoevalError {
        CocoevalError::Java { metric: self.metric, what: what.to_owned(), stderr: self.kill() }
    }

    fn timed_out(&mut self) -> CocoevalError {
        CocoevalError::JavaTimeout { metric: self.metric, waited: self.timeout, stderr: self.kill() }
    }

    /// Kills the program, if it still runs, and returns the end of its error output.
    fn kill(&mut self) -> String {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        let reader = self.stderr.take();
        // A grandchild could hold the pipe open for ever, so the reader is not waited for without an end.
        let start = Instant::now();
        while reader.as_ref().is_some_and(|reader| !reader.is_finished()) && start.elapsed().as_secs() < 2 {
            std::thread::sleep(POLL);
        }
        let said = reader.filter(JoinHandle::is_finished).and_then(|reader| reader.join().ok());
        said.filter(|said| !said.is_empty()).unwrap_or_else(|| "nothing".to_owned())
    }
}

/// Feeds a program from a thread of its own.
#[derive(Debug)]
pub(super) struct Feeder {
    sender: Sender<Vec<String>>,
}

impl Feeder {
    /// Sends lines, which are written one after the other.
    pub(super) fn send(&self, lines: Vec<String>) {
        let _ = self.sender.send(lines); // a program that no longer reads is found out by its answers
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// The end of what a stream says until it closes.
fn tail(mut stream: impl Read) -> String {
    let (mut kept, mut block) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = stream.read(&mut block) {
        kept.extend_from_slice(&block[..count]);
        let excess = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
