//! Tells the engine `turbo` the version of libjpeg-turbo that it is built with, which is part of its name. Without that
//! feature there is nothing to do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_TURBO").is_none() {
        return;
    }
    let folders = std::env::var("DEP_TURBOJPEG_INCLUDE").unwrap_or_default();
    let version = folders.split(',').find_map(|folder| version_in(std::path::Path::new(folder)));
    println!("cargo::rustc-env=LIBJPEG_TURBO_VERSION={}", version.unwrap_or_else(|| "unknown".to_owned()));
}

/// The version in a folder of headers, or in one below it, as some systems have it.
fn version_in(folder: &std::path::Path) -> Option<String> {
    let below = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let headers = std::iter::once(folder.to_path_buf()).chain(below).map(|folder| folder.join("jconfig.h"));
    let text = headers.filter_map(|header| std::fs::read_to_string(header).ok()).next()?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "LIBJPEG_TURBO_VERSION");
    words.nth(1).map(str::to_owned)
}
