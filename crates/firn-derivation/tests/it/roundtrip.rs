//! Any derivation survives being written and read; any bytes are read without a panic.

use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StoreDir, StorePath};
use firn_derivation::{Derivation, DerivationOutput, InputNode};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

fn path() -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z0-9+._?=-]{1,12}")
        .prop_filter_map("a name that store paths can have", |(hash, name)| StorePath::new(hash, &name).ok())
}

fn method() -> impl Strategy<Value = CaMethod> {
    prop_oneof![Just(CaMethod::Flat), Just(CaMethod::NixArchive), Just(CaMethod::Text), Just(CaMethod::Git)]
}

fn output() -> impl Strategy<Value = DerivationOutput> {
    prop_oneof![
        path().prop_map(DerivationOutput::InputAddressed),
        Just(DerivationOutput::Deferred),
        (method(), any::<Vec<u8>>()).prop_map(|(method, data)| {
            DerivationOutput::CaFixed(ContentAddress { method, hash: Hash::of(HashAlgo::Sha256, &data) })
        }),
        method().prop_map(|method| DerivationOutput::CaFloating { method, algo: HashAlgo::Sha1 }),
        method().prop_map(|method| DerivationOutput::Impure { method, algo: HashAlgo::Sha512 }),
    ]
}

fn node() -> impl Strategy<Value = InputNode> {
    let leaf = btree_set("[a-z]{1,4}", 0..3).prop_map(|outputs| InputNode { outputs, ..Default::default() });
    leaf.prop_recursive(3, 8, 2, |inner| {
        (btree_set("[a-z]{1,4}", 0..3), btree_map("[a-z]{1,4}", inner, 0..3))
            .prop_map(|(outputs, dynamic)| InputNode { outputs, dynamic })
    })
}

prop_compose! {
    fn derivation()(
        name in "[a-z]{1,8}",
        outputs in btree_map("[a-z]{1,5}", output(), 0..3),
        input_srcs in btree_set(path(), 0..3),
        input_drvs in btree_map(path(), node(), 0..3),
        platform in "[a-z0-9_-]{0,8}",
        builder in any::<Vec<u8>>(),
        args in vec(any::<Vec<u8>>(), 0..3),
        env in btree_map(any::<Vec<u8>>(), any::<Vec<u8>>(), 0..4),
    ) -> Derivation {
        Derivation {
            name, outputs, input_srcs, input_drvs, platform: platform.into_bytes(), builder, args, env,
        }
    }
}

proptest! {
    #[test]
    fn survives(drv in derivation()) {
        let dir = StoreDir::default();
        let bytes = drv.to_aterm(&dir);
        prop_assert_eq!(Derivation::parse_aterm(&drv.name, &bytes, &dir).unwrap(), drv);
    }

    #[test]
    fn cut_bytes_are_refused(drv in derivation(), cut in 1usize..40) {
        let dir = StoreDir::default();
        let bytes = drv.to_aterm(&dir);
        let cut = bytes.len().saturating_sub(cut);
        prop_assert!(Derivation::parse_aterm(&drv.name, &bytes[..cut], &dir).is_err());
    }

    #[test]
    fn changed_bytes_never_panic(drv in derivation(), at in any::<prop::sample::Index>(), byte: u8) {
        let dir = StoreDir::default();
        let mut bytes = drv.to_aterm(&dir);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(parsed) = Derivation::parse_aterm(&drv.name, &bytes, &dir) {
            let _ = parsed.to_json();
            let _ = parsed.options(&dir);
        }
    }
}
