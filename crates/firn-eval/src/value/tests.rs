use super::*;
use crate::context::Context;

#[test]
fn integers_of_every_size() {
    for n in [0, 1, -1, i64::MAX, i64::MIN, 1 << 60, -(1 << 60), (1 << 60) - 1, 1 << 59] {
        assert_eq!(Value::int(n).as_int(), Some(n));
    }
}

#[test]
fn strings_and_lists() {
    let s = Value::str_with(b"hello", Context::EMPTY);
    assert_eq!(s.as_str().map(|s| s.as_bytes()), Some(&b"hello"[..]));
    let list = Value::list(&[s, Value::int(1), Value::TRUE]);
    let Some(l) = list.as_list() else { panic!("not a list") };
    assert_eq!((l.len(), l.get(1).as_int()), (3, Some(1)));
    let Some(tail) = l.tail_from(1).as_list() else { panic!("not a list") };
    assert_eq!((tail.len(), tail.get(1)), (2, Value::TRUE));
    assert!(Value::EMPTY_LIST.as_list().is_some_and(|l| l.is_empty()));
}

#[test]
fn frames() {
    let outer = Env::new(None, 2);
    let inner = Env::new(Some(outer), 1);
    outer.set(1, Value::int(7));
    assert!(inner.get(0).is_unset());
    assert_eq!(inner.up(1).get(1).as_int(), Some(7));
}

#[test]
fn thunks_are_claimed_once() {
    let thunk = Thunk::apply(Value::NULL, Value::TRUE);
    assert!(matches!(thunk.state(), ThunkState::Suspended));
    let Some(Suspended::Native(Native::Apply, payload)) = thunk.claim(1) else { panic!("not claimed") };
    assert_eq!(payload.as_slice(), &[Value::NULL, Value::TRUE]);
    assert!(thunk.claim(1).is_none());
    thunk.finish(Value::int(3));
    assert_eq!(thunk.result().and_then(Value::as_int), Some(3));
}

#[test]
fn applications_of_functions_are_suspended_again() {
    let (function, argument) = (Value::partial(&NOTHING, &[]), Value::str(b"argument"));
    let thunk = Thunk::apply(function, argument);
    for _ in 0..2 {
        assert_eq!(thunk.applied_function(), Some(function));
        let Some(work @ Suspended::Apply(f, a)) = thunk.claim(1) else { panic!("not claimed") };
        assert_eq!((f, a), (function, argument));
        assert!(thunk.claim(2).is_none() && thunk.applied_function().is_none());
        thunk.restore(work);
    }
}

static NOTHING: crate::expr::PrimOp = crate::expr::PrimOp {
    name: "nothing",
    arity: 1,
    run: |_, args, _| Ok(args[0]),
    eager: &[],
    coerces: false,
};

#[test]
fn single_characters_are_made_once() {
    for byte in 0..=255u8 {
        let (a, b) = (Value::str(&[byte]), Value::str(&[byte]));
        assert_eq!(a, b);
        assert_eq!(a.as_str().map(|s| s.as_bytes()), Some(&[byte][..]));
    }
}

#[test]
fn value_vec_grows() {
    let mut v = ValueVec::default();
    v.extend((0..100).map(Value::int));
    assert_eq!(v.to_list().as_list().map(|l| l.get(99).as_int()), Some(Some(99)));
}

fn set(entries: &[(String, i64)]) -> Attrs {
    let mut attrs = crate::attrs::AttrsBuilder::new();
    for (name, value) in entries {
        attrs.push(firn_syntax::Sym::new(name.as_bytes()), Value::int(*value));
    }
    attrs.finish().as_attrs().expect("a set")
}

/// `a // b` as the evaluator does it.
fn update(a: Attrs, b: Attrs) -> Attrs {
    Attrs::update(a, b, &UpdateCache::none())
}

fn number(attrs: Attrs, name: &str) -> Option<i64> {
    attrs.find(firn_syntax::Sym::new(name.as_bytes())).and_then(Value::as_int)
}

#[test]
fn layers_are_the_set_that_they_amount_to() {
    let mut model: std::collections::BTreeMap<String, i64> = (0..200).map(|i| (format!("k{i}"), i)).collect();
    let entries = |model: &std::collections::BTreeMap<String, i64>| -> Vec<(String, i64)> {
        model.iter().map(|(name, value)| (name.clone(), *value)).collect()
    };
    let mut attrs = set(&entries(&model));
    let mut kept = Vec::new();
    for step in 0..600 {
        // Now one name, now several, some of them known.
        let more: Vec<(String, i64)> =
            (0..=step % 5).map(|i| (format!("k{}", (step * 7 + i * 31) % 700), 1000 + step + i)).collect();
        attrs = update(attrs, set(&more));
        model.extend(more.clone());
        for (name, _) in more.iter().chain([("k3".to_owned(), 0), ("absent".to_owned(), 0)].iter()) {
            assert_eq!(number(attrs, name), model.get(name).copied(), "step {step}, {name}");
        }
        if step % 100 == 50 {
            kept.push((attrs, model.clone()));
        }
    }
    // What was laid on before is as it was; also when it is laid on again.
    for (attrs, model) in kept.into_iter().chain([(attrs, model)]) {
        let other = update(attrs, set(&[("k1".to_owned(), -1)]));
        let shape = attrs.shape();
        let found: Vec<(String, i64)> = shape
            .order()
            .iter()
            .map(|i| {
                (shape.syms()[*i as usize].to_string(), attrs.get(*i as usize).as_int().expect("a number"))
            })
            .collect();
        assert_eq!(found, entries(&model));
        assert_eq!((number(other, "k1"), number(other, "k2")), (Some(-1), model.get("k2").copied()));
        assert_eq!(other.len(), attrs.len());
    }
}

#[test]
fn layers_that_are_looked_through_often_are_merged() {
    let base: Vec<(String, i64)> = (0..100).map(|i| (format!("m{i}"), i)).collect();
    let attrs = update(set(&base), set(&[("m5".to_owned(), 7)]));
    let cache = PlaceCache::new();
    for _ in 0..300 {
        let name = firn_syntax::Sym::new(b"m5");
        assert_eq!(attrs.find_cached(name, &cache).and_then(Value::as_int), Some(7));
        assert_eq!(number(attrs, "m6"), Some(6));
    }
}

#[test]
fn lists_that_share_their_beginning_grow_apart() {
    let one = |n: i64| Value::list(&[Value::int(n)]).as_list().expect("a list");
    let numbers = |value: Value| -> Vec<i64> {
        value.as_list().expect("a list").iter().map(|v| v.as_int().expect("a number")).collect()
    };
    let mut list = Value::list(&(0..32).map(Value::int).collect::<Vec<_>>());
    let mut model: Vec<i64> = (0..32).collect();
    let mut kept = Vec::new();
    for n in 32..300 {
        // The same list continued twice: the second one must not see the first one's end.
        let other = list.append(one(-n)).expect("long enough");
        kept.push((other, [&model[..], &[-n]].concat()));
        list = list.append(one(n)).expect("long enough");
        model.push(n);
        kept.push((list, model.clone()));
    }
    for (list, model) in kept {
        assert_eq!(numbers(list), model);
        let tail = list.as_list().map(|l| l.tail_from(5)).expect("a list");
        assert_eq!(numbers(tail), model[5..]);
    }
    assert!(Value::list(&[Value::NULL]).append(one(1)).is_none(), "short lists are copied");
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.word())
    }
}

#[test]
fn what_was_found_in_scopes_is_of_one_frame() {
    let cache = ScopeCache::new();
    let frame = Env::new(None, 1);
    cache.set(frame, Value::int(1));
    assert!(cache.get(frame).is_none(), "a frame that may be given back is not remembered");
    frame.capture();
    cache.set(frame, Value::int(2));
    assert_eq!(cache.get(frame), Some(Value::int(2)));
    let other = Env::new(None, 1);
    other.capture();
    assert!(cache.get(other).is_none());
    cache.set(other, Value::int(3));
    assert_eq!((cache.get(frame), cache.get(other)), (None, Some(Value::int(3))));
}
