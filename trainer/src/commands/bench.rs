//! `trainer bench`: the time of training steps by phase.

use super::report;
use crate::cli::BenchArguments;
use anyhow::{Context, Result};
use std::process::ExitCode;
use trainer::bench::{self, Measured, Plan, measure};
use trainer::config::Config;

/// Runs the steps and prints what was measured.
pub(crate) fn run(arguments: &BenchArguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    if arguments.write {
        return write(&config, arguments);
    }
    let plan = Plan {
        config: &config,
        data: arguments.data.as_deref(),
        warmup: arguments.warmup,
        steps: arguments.steps,
    };
    let found = measure(plan)?;
    if arguments.json {
        report::json(&serde_json::to_value(&found).context("write the result as JSON")?);
    } else {
        lines(&found).iter().for_each(|line| report::line(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// How fast a captioner writes.
fn write(config: &Config, arguments: &BenchArguments) -> Result<ExitCode> {
    let found = bench::write(config, arguments.steps)?;
    if arguments.json {
        report::json(&serde_json::to_value(&found).context("write the result as JSON")?);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{}, {} threads", found.model, found.threads));
    report::line(&format!(
        "{} pictures, {} captions followed, {} tokens each: {:.4} s, {:.0} tokens/s",
        found.pictures, found.captions, found.tokens, found.seconds, found.tokens_per_s
    ));
    Ok(ExitCode::SUCCESS)
}

fn lines(found: &Measured) -> Vec<String> {
    let s = &found.seconds;
    let share = |seconds: f64| format!("{:5.1} %", 100.0 * seconds / s.step.max(1e-12));
    let mut lines = vec![
        format!("{}, batches of {}, {} threads", found.model, found.batch_size, found.threads),
        format!(
            "step       {:9.4} s  median of {}, {:.4} to {:.4}",
            s.step, found.steps, found.step_min, found.step_max
        ),
    ];
    for (name, seconds) in
        [("data", s.data), ("forward", s.forward), ("backward", s.backward), ("optimizer", s.optimizer)]
    {
        lines.push(format!("{name:9}  {seconds:9.4} s  {}", share(seconds)));
    }
    lines.push(format!("samples/s  {:9.2}", found.samples_per_s));
    if let Some(wait) = found.data_wait {
        lines.push(format!("data wait  {:9.2} %  of all counted steps", 100.0 * wait));
    }
    if let (Some(mfu), Some(rate)) = (found.mfu, found.gemm_flops_per_s) {
        lines.push(format!(
            "MFU        {:9.1} %  of {:.1} GFLOP/s that large matrix products reach here",
            100.0 * mfu,
            rate / 1e9
        ));
    }
    if let Some(bytes) = found.peak_memory_bytes {
        lines.push(format!("memory     {:9.0} MiB at most", bytes as f64 / 1024.0 / 1024.0));
    }
    lines
}
