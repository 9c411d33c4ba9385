//! Runs the token rules: the longest match at a place, and of equally long ones the earlier rule.
//!
//! All rules are one automaton over bytes that is determined as it is used, so the first captions pay for the
//! states that the later ones find ready. What the rules mean is left to `rules.rs` and `actions.rs`.

use std::sync::OnceLock;

use regex_automata::{
    Anchored, MatchKind,
    hybrid::dfa::{Cache, DFA},
    util::start,
};

use super::rules::{Rule, rules};

/// Upper bound of one thread's cache of states; captions of English need about a hundredth of it.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// The rules and their automaton, without the mutable cache that each thread has for itself.
#[derive(Debug)]
pub(super) struct Automaton {
    rules: Vec<Rule>,
    dfa: DFA,
}

/// A rule that matched and where its text ends, in bytes, context included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match<'a> {
    pub(super) rule: &'a Rule,
    pub(super) end: usize,
}

impl Automaton {
    /// The one automaton of this process.
    pub(super) fn get() -> &'static Self {
        static AUTOMATON: OnceLock<Automaton> = OnceLock::new();
        AUTOMATON.get_or_init(Self::build)
    }

    fn build() -> Self {
        let rules = rules();
        let patterns: Vec<&str> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
        let dfa = DFA::builder()
            .configure(DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES_MAX))
            .build_many(&patterns)
            .expect("the rules are constants, and a test compiles them");
        Self { rules, dfa }
    }

    /// A fresh cache for one thread.
    pub(super) fn cache(&self) -> Cache {
        self.dfa.create_cache()
    }

    /// The longest match that begins at `text`'s first byte; none where `text` is empty.
    pub(super) fn longest(&self, cache: &mut Cache, text: &str) -> Option<Match<'_>> {
        const REASON: &str = "the cache may be cleared any number of times, and no byte is a quit byte";
        let mut state =
            self.dfa.start_state(cache, &start::Config::new().anchored(Anchored::Yes)).expect(REASON);
        let mut found = None;
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            state = self.dfa.next_state(cache, state, byte).expect(REASON);
            if state.is_match() {
                found = Some((self.dfa.match_pattern(cache, state, 0), at)); // a match is told one byte late
            } else if state.is_dead() {
                break;
            }
        }
        if !state.is_dead() {
            let last = self.dfa.next_eoi_state(cache, state).expect(REASON);
            if last.is_match() {
                found = Some((self.dfa.match_pattern(cache, last, 0), text.len()));
            }
        }
        found.map(|(pattern, end)| Match { rule: &self.rules[pattern.as_usize()], end })
    }
}
