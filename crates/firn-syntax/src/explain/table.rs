//! LALR(1) tables for the grammar, made when the first syntax error is to be explained. Sets of tokens are bits.

use super::grammar::{Assoc, PRECEDENCE, RULES, TOKENS};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What to do in a state at a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Shift(usize),
    Reduce(usize),
    Accept,
    /// Operators that do not associate.
    Error,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) actions: BTreeMap<usize, Action>,
    /// The reduction for all tokens that have no action of their own.
    pub(super) default: Option<usize>,
    pub(super) gotos: HashMap<usize, usize>,
}

pub(super) struct Rule {
    pub(super) left: usize,
    pub(super) right: Vec<usize>,
    strength: Option<usize>,
}

pub(super) struct Table {
    pub(super) states: Vec<State>,
    pub(super) rules: Vec<Rule>,
}

/// A place in a rule: its number, and how many of its symbols are behind.
type Item = (usize, usize);

const END: usize = 0;

struct Grammar {
    rules: Vec<Rule>,
    /// Rules of each symbol that is no token.
    by_left: HashMap<usize, Vec<usize>>,
    first: Vec<u128>,
    nullable: Vec<bool>,
    strengths: HashMap<usize, (usize, Assoc)>,
}

impl Table {
    pub(super) fn build() -> Table {
        let grammar = Grammar::new();
        let (kernels, gotos) = grammar.states();
        let lookaheads = grammar.lookaheads(&kernels, &gotos);
        let states = kernels
            .iter()
            .enumerate()
            .map(|(number, kernel)| {
                let items = kernel.iter().map(|item| (*item, lookaheads[&(number, *item)]));
                grammar.state(&grammar.closure(items.collect()), &gotos[number])
            })
            .collect();
        Table { states, rules: grammar.rules }
    }
}

impl Grammar {
    fn new() -> Grammar {
        let mut numbers: HashMap<&str, usize> =
            TOKENS.iter().enumerate().map(|(i, (name, _))| (*name, i)).collect();
        // The first symbol after the tokens is the start.
        for (name, _) in std::iter::once(&("$start", &[] as &[&str])).chain(RULES) {
            let next = numbers.len();
            numbers.entry(name).or_insert(next);
        }
        let mut strengths = HashMap::new();
        for (level, (assoc, names)) in PRECEDENCE.iter().enumerate() {
            for name in *names {
                strengths.insert(numbers[name], (level, *assoc));
            }
        }
        let mut rules = vec![Rule { left: TOKENS.len(), right: vec![numbers["Expr"], END], strength: None }];
        for (left, alternatives) in RULES {
            for alternative in *alternatives {
                let (symbols, strength) = alternative.split_once('%').unwrap_or((alternative, ""));
                let right: Vec<usize> = symbols.split_whitespace().map(|s| numbers[s]).collect();
                let last = right.iter().rev().find(|s| **s < TOKENS.len()).copied();
                let token = numbers.get(strength.trim()).copied().or(last);
                let strength = token.and_then(|t| strengths.get(&t)).map(|(level, _)| *level);
                rules.push(Rule { left: numbers[left], right, strength });
            }
        }
        let mut by_left: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, rule) in rules.iter().enumerate() {
            by_left.entry(rule.left).or_default().push(i);
        }
        let mut grammar = Grammar {
            rules,
            by_left,
            first: (0..numbers.len()).map(|s| if s < TOKENS.len() { 1 << s } else { 0 }).collect(),
            nullable: vec![false; numbers.len()],
            strengths,
        };
        grammar.find_first();
        grammar
    }

    fn find_first(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for rule in &self.rules {
                let mut all_nullable = true;
                for symbol in &rule.right {
                    let before = self.first[rule.left];
                    self.first[rule.left] |= self.first[*symbol];
                    changed |= self.first[rule.left] != before;
                    if !self.nullable[*symbol] {
                        all_nullable = false;
                        break;
                    }
                }
                if all_nullable && !self.nullable[rule.left] {
                    self.nullable[rule.left] = true;
                    changed = true;
                }
            }
        }
    }

    /// Kernels of the LR(0) automaton, and where each leads.
    fn states(&self) -> (Vec<BTreeSet<Item>>, Vec<HashMap<usize, usize>>) {
        let mut kernels = vec![BTreeSet::from([(0, 0)])];
        let mut numbers = HashMap::from([(kernels[0].clone(), 0)]);
        let mut gotos = Vec::new();
        let mut at = 0;
        while at < kernels.len() {
            let mut items: BTreeSet<Item> = kernels[at].clone();
            let mut todo: Vec<Item> = items.iter().copied().collect();
            while let Some((rule, dot)) = todo.pop() {
                let next = self.rules[rule].right.get(dot).and_then(|s| self.by_left.get(s));
                for rule in next.into_iter().flatten() {
                    if items.insert((*rule, 0)) {
                        todo.push((*rule, 0));
                    }
                }
            }
            let mut moves: BTreeMap<usize, BTreeSet<Item>> = BTreeMap::new();
            for (rule, dot) in items {
                if let Some(symbol) = self.rules[rule].right.get(dot) {
                    moves.entry(*symbol).or_default().insert((rule, dot + 1));
                }
            }
            let mut out = HashMap::new();
            for (symbol, kernel) in moves {
                let next = kernels.len();
                let number = *numbers.entry(kernel.clone()).or_insert(next);
                if number == next {
                    kernels.push(kernel);
                }
                out.insert(symbol, number);
            }
            gotos.push(out);
            at += 1;
        }
        (kernels, gotos)
    }

    /// All items of a state with the tokens that may follow each, from those of its kernel.
    fn closure(&self, kernel: Vec<(Item, u128)>) -> BTreeMap<Item, u128> {
        let mut all: BTreeMap<Item, u128> = kernel.iter().cloned().collect();
        let mut todo: Vec<Item> = kernel.into_iter().map(|(item, _)| item).collect();
        while let Some((rule, dot)) = todo.pop() {
            let right = &self.rules[rule].right;
            let Some(rules) = right.get(dot).and_then(|s| self.by_left.get(s)) else { continue };
            let mut follow = 0;
            let mut open = true;
            for symbol in &right[dot + 1..] {
                follow |= self.first[*symbol];
                if !self.nullable[*symbol] {
                    open = false;
                    break;
                }
            }
            if open {
                follow |= all[&(rule, dot)];
            }
            for rule in rules {
                let known = all.entry((*rule, 0));
                let is_new = matches!(known, std::collections::btree_map::Entry::Vacant(_));
                let known = known.or_default();
                let before = *known;
                *known |= follow;
                if is_new || *known != before {
                    todo.push((*rule, 0));
                }
            }
        }
        all
    }

    /// The tokens that may follow each kernel item: what arises in a state and what is passed on from others.
    fn lookaheads(
        &self,
        kernels: &[BTreeSet<Item>],
        gotos: &[HashMap<usize, usize>],
    ) -> HashMap<(usize, Item), u128> {
        // Stands for "whatever follows the kernel item".
        const PASSED: u128 = 1 << 127;
        let mut found: HashMap<(usize, Item), u128> = HashMap::new();
        let mut passed: HashMap<(usize, Item), Vec<(usize, Item)>> = HashMap::new();
        for (number, kernel) in kernels.iter().enumerate() {
            for item in kernel {
                found.entry((number, *item)).or_default();
                for ((rule, dot), tokens) in self.closure(vec![(*item, PASSED)]) {
                    let Some(symbol) = self.rules[rule].right.get(dot) else { continue };
                    let Some(to) = gotos[number].get(symbol) else { continue };
                    let target = (*to, (rule, dot + 1));
                    if tokens & PASSED != 0 {
                        passed.entry((number, *item)).or_default().push(target);
                    }
                    *found.entry(target).or_default() |= tokens & !PASSED;
                }
            }
        }
        let mut todo: Vec<(usize, Item)> = found.keys().copied().collect();
        while let Some(from) = todo.pop() {
            let tokens = found[&from];
            for target in passed.get(&from).into_iter().flatten() {
                let known = found.entry(*target).or_default();
                let before = *known;
                *known |= tokens;
                if *known != before {
                    todo.push(*target);
                }
            }
        }
        found
    }

    fn state(&self, items: &BTreeMap<Item, u128>, gotos: &HashMap<usize, usize>) -> State {
        let mut state = State::default();
        for (symbol, to) in gotos {
            if *symbol == END {
                state.actions.insert(END, Action::Accept);
            } else if *symbol < TOKENS.len() {
                state.actions.insert(*symbol, Action::Shift(*to));
            } else {
                state.gotos.insert(*symbol, *to);
            }
        }
        for ((rule, dot), tokens) in items {
            if *dot < self.rules[*rule].right.len() {
                continue;
            }
            for token in (0..TOKENS.len()).filter(|token| *tokens & (1 << token) != 0) {
                let action = match state.actions.get(&token) {
                    Some(Action::Shift(_)) => self.resolve(*rule, token),
                    _ => Some(Action::Reduce(*rule)),
                };
                if let Some(action) = action {
                    state.actions.insert(token, action);
                }
            }
        }
        // The reduction that most tokens ask for is done for all others too; of several the first rule's.
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for action in state.actions.values() {
            if let Action::Reduce(rule) = action {
                *counts.entry(*rule).or_default() += 1;
            }
        }
        state.default = counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(rule, _)| rule);
        if let Some(rule) = state.default {
            state.actions.retain(|_, action| *action != Action::Reduce(rule));
        }
        state
    }

    /// Whether to reduce where a token could also be shifted; `None` to shift.
    fn resolve(&self, rule: usize, token: usize) -> Option<Action> {
        let (Some(rule_strength), Some((token_strength, assoc))) =
            (self.rules[rule].strength, self.strengths.get(&token))
        else {
            return None;
        };
        match rule_strength.cmp(token_strength) {
            std::cmp::Ordering::Greater => Some(Action::Reduce(rule)),
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => match assoc {
                Assoc::Left => Some(Action::Reduce(rule)),
                Assoc::Right => None,
                Assoc::None => Some(Action::Error),
            },
        }
    }
}
