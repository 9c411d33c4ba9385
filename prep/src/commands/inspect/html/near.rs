//! Near-duplicates on the page, side by side, those across splits first. It leaves out the search (`crate::near`).

use std::fmt::Write as _;

use super::{
    pictures::Album,
    text::{escaped, grouped},
};
use crate::{
    Result,
    near::{Member, NearDuplicates, Relation},
};

/// Pairs that are shown of each relation.
const PAIRS_SHOWN: usize = 40;

/// Clusters of three and more that are shown, and pictures of each.
const CLUSTERS_SHOWN: usize = 10;
const MEMBERS_SHOWN: usize = 12;

/// Writes the section.
pub(super) fn section(html: &mut String, album: &Album<'_>, near: &NearDuplicates) -> Result<()> {
    let _ = write!(
        html,
        "<h2 id=\"near\">Near-duplicates</h2><p class=\"faint\">{} pictures compared by a perceptual hash; \
         pairs differ in at most {} of its 64 bits. Mirrored and strongly cropped pictures are not found.</p>",
        grouped(near.compared),
        near.max_distance
    );
    if near.flat > 0 {
        let flat = grouped(near.flat);
        let _ = write!(html, "<p>{flat} flat pictures (one colour, a plain gradient) were not compared.</p>");
    }
    if !near.complete {
        html.push_str("<p class=\"bad\">There are more pairs than could be counted.</p>");
    }
    for relation in &near.relations {
        pairs(html, album, relation)?;
    }
    let large: Vec<_> =
        near.clusters.iter().filter(|cluster| cluster.size > 2).take(CLUSTERS_SHOWN).collect();
    if !large.is_empty() {
        let _ = write!(html, "<h3>Clusters: {} in all, the largest</h3>", grouped(near.cluster_count));
    }
    for cluster in large {
        let _ = write!(html, "<p>{} pictures</p><div class=\"grid\">", grouped(cluster.size));
        for member in cluster.members.iter().take(MEMBERS_SHOWN) {
            let figure = figure(album, member)?;
            let _ = write!(html, "<div class=\"card\">{figure}</div>");
        }
        html.push_str("</div>");
    }
    Ok(())
}

fn pairs(html: &mut String, album: &Album<'_>, relation: &Relation) -> Result<()> {
    let [one, two] = relation.splits.each_ref().map(|split| escaped(split));
    let across = relation.is_across();
    let of = if across { format!("Leaks: across {one} and {two}") } else { format!("Within {one}") };
    let count = relation.pairs;
    let noun = if count == 1 { "pair" } else { "pairs" };
    let _ = write!(html, "<h3>{of}: {} {noun}</h3>", grouped(count));
    if across && count == 0 {
        html.push_str("<p class=\"good\">No picture of one is nearly one of the other.</p>");
    } else if across {
        let _ =
            write!(html, "<p class=\"alarm\">Of {two}, these may have been seen in {one}: look at them.</p>");
    }
    if relation.listed.is_empty() {
        return Ok(());
    }
    html.push_str("<div class=\"pairs\">");
    for pair in relation.listed.iter().take(PAIRS_SHOWN) {
        let (first, second) = (figure(album, &pair.first)?, figure(album, &pair.second)?);
        let bits = if pair.distance == 1 { "bit" } else { "bits" };
        let _ = write!(
            html,
            "<div class=\"card\"><div class=\"side\">{first}{second}</div><div>distance {} {bits}</div></div>",
            pair.distance
        );
    }
    html.push_str("</div>");
    let shown = relation.listed.len().min(PAIRS_SHOWN) as u64;
    if count > shown {
        let _ = write!(html, "<p class=\"faint\">and {} more</p>", grouped(count - shown));
    }
    Ok(())
}

fn figure(album: &Album<'_>, member: &Member) -> Result<String> {
    let (img, split, key) = (album.member(member)?, escaped(&member.split), escaped(&member.key));
    Ok(format!("<figure>{img}<figcaption class=\"key\">{split}/{key}</figcaption></figure>"))
}
