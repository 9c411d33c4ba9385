//! scratch
use std::io::*;
fn main(){ let mut s=String::new(); stdin().read_to_string(&mut s).unwrap(); let mut o=BufWriter::new(stdout()); for l in s.split('\n'){ writeln!(o,"{}",cocoeval::tokenize_joined(l)).unwrap(); } }
