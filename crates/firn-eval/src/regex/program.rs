//! What an expression is compiled to: states of a non-deterministic automaton in one array.

/// Index of a state.
pub type StateId = u32;

/// A dangling edge, until the fragment is joined to what follows.
pub const NOWHERE: StateId = StateId::MAX;

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    pub const EMPTY: ByteSet = ByteSet([0; 4]);

    pub fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    pub fn invert(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }

    pub fn union(&mut self, other: &ByteSet) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// The only member, if there is just one.
    pub fn single(&self) -> Option<u8> {
        let members: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        let word = self.0.iter().position(|word| *word != 0).filter(|_| members == 1)?;
        u8::try_from(word * 64 + self.0[word].trailing_zeros() as usize).ok()
    }
}

/// What a state does before it goes on to `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Byte(u8),
    /// A member of the set with that index.
    Set(u32),
    /// Any byte but NUL.
    Any,
    GroupStart(u32),
    GroupEnd(u32),
    LineStart,
    LineEnd,
    /// Tries `first`, then `next`; both always.
    Alternative {
        first: StateId,
    },
    /// Tries `body`, and `next` only if that led to no match.
    Repeat {
        body: StateId,
    },
    Nothing,
    Accept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub op: Op,
    pub next: StateId,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    pub states: Vec<State>,
    pub start: StateId,
    pub sets: Vec<ByteSet>,
    /// The whole match included.
    pub groups: usize,
    /// For each state the index of its row of remembered results; `NOWHERE` for states that do not branch.
    pub branch_index: Vec<u32>,
    pub branches: usize,
    /// For each state the index of its repeat counter, where the loop can come round without taking a byte;
    /// `NOWHERE` for all others.
    pub counter_index: Vec<u32>,
    pub counters: usize,
    /// Bytes that a match can start with; `None` if it can be empty or start with any.
    pub first: Option<ByteSet>,
}

impl Program {
    pub fn new(states: Vec<State>, start: StateId, sets: Vec<ByteSet>, groups: usize) -> Self {
        let mut program = Self {
            branch_index: vec![NOWHERE; states.len()],
            counter_index: vec![NOWHERE; states.len()],
            states,
            start,
            sets,
            groups,
            branches: 0,
            counters: 0,
            first: None,
        };
        program.find_branches();
        program.find_empty_loops();
        program.first = program.first_bytes();
        program
    }

    fn find_branches(&mut self) {
        for (index, state) in self.states.iter().enumerate() {
            if matches!(state.op, Op::Alternative { .. } | Op::Repeat { .. }) {
                self.branch_index[index] = self.branches as u32;
                self.branches += 1;
            }
        }
    }

    /// The states that `id` leads to without taking a byte.
    fn empty_edges(&self, id: StateId) -> [StateId; 2] {
        let state = self.states[id as usize];
        match state.op {
            Op::Byte(_) | Op::Set(_) | Op::Any | Op::Accept => [NOWHERE; 2],
            Op::Alternative { first } => [first, state.next],
            Op::Repeat { body } => [body, state.next],
            _ => [state.next, NOWHERE],
        }
    }

    /// Gives a counter to every repeat that lies on a cycle of empty edges: Tarjan's strongly connected
    /// components, with a stack of its own.
    fn find_empty_loops(&mut self) {
        let count = self.states.len();
        let (mut order, mut low) = (vec![0u32; count], vec![0u32; count]);
        let mut on_stack = vec![false; count];
        let mut stack: Vec<StateId> = Vec::new();
        let mut clock = 0u32;
        for root in 0..count as StateId {
            if order[root as usize] != 0 {
                continue;
            }
            let mut path: Vec<(StateId, usize)> = vec![(root, 0)];
            while let Some((id, edge)) = path.last_mut() {
                let at = *id as usize;
                if *edge == 0 {
                    clock += 1;
                    order[at] = clock;
                    low[at] = clock;
                    on_stack[at] = true;
                    stack.push(*id);
                }
                let target = self.empty_edges(*id).get(*edge).copied();
                *edge += 1;
                match target {
                    Some(NOWHERE) => {}
                    Some(target) if order[target as usize] == 0 => path.push((target, 0)),
                    Some(target) if on_stack[target as usize] => {
                        low[at] = low[at].min(order[target as usize]);
                    }
                    Some(_) => {}
                    None => {
                        let id = *id;
                        path.pop();
                        if let Some((parent, _)) = path.last() {
                            low[*parent as usize] = low[*parent as usize].min(low[at]);
                        }
                        if low[at] == order[at] {
                            self.close_component(id, &mut stack, &mut on_stack);
                        }
                    }
                }
            }
        }
    }

    fn close_component(&mut self, root: StateId, stack: &mut Vec<StateId>, on_stack: &mut [bool]) {
        let from = stack.iter().rposition(|id| *id == root).unwrap_or(0);
        let component: Vec<StateId> = stack.split_off(from);
        for id in &component {
            on_stack[*id as usize] = false;
        }
        let is_cycle = component.len() > 1 || self.empty_edges(root).contains(&root);
        for id in component {
            if is_cycle && matches!(self.states[id as usize].op, Op::Repeat { .. }) {
                self.counter_index[id as usize] = self.counters as u32;
                self.counters += 1;
            }
        }
    }

    fn first_bytes(&self) -> Option<ByteSet> {
        let mut bytes = ByteSet::EMPTY;
        let mut seen = vec![false; self.states.len()];
        let mut todo = vec![self.start];
        while let Some(id) = todo.pop() {
            if id == NOWHERE || std::mem::replace(&mut seen[id as usize], true) {
                continue;
            }
            match self.states[id as usize].op {
                Op::Byte(byte) => bytes.insert(byte),
                Op::Set(set) => bytes.union(&self.sets[set as usize]),
                Op::Any | Op::Accept => return None,
                _ => todo.extend(self.empty_edges(id)),
            }
        }
        Some(bytes)
    }

    /// Whether the state takes exactly one byte, and this is one that it takes.
    pub fn takes(&self, op: Op, byte: u8) -> bool {
        match op {
            Op::Byte(wanted) => byte == wanted,
            Op::Set(set) => self.sets[set as usize].contains(byte),
            Op::Any => byte != 0,
            _ => false,
        }
    }

    /// The body of a loop over single bytes, if the repeat `id` is one.
    pub fn single_byte_body(&self, id: StateId, body: StateId) -> Option<Op> {
        let body = self.states[body as usize];
        (body.next == id && matches!(body.op, Op::Byte(_) | Op::Set(_) | Op::Any)).then_some(body.op)
    }
}
