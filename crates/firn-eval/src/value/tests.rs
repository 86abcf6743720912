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
fn value_vec_grows() {
    let mut v = ValueVec::default();
    v.extend((0..100).map(Value::int));
    assert_eq!(v.to_list().as_list().map(|l| l.get(99).as_int()), Some(Some(99)));
}
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.word())
    }
}
