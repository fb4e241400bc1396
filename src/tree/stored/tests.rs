use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::repo::{ChunkSink, Class, MemoryChunks};
use crate::tree::samples::{any_name, any_node, build, dir, file, stored};
use crate::tree::{Body, Entry, Meta, Source, Step, StoredSource, Walk};

/// What a tree is made of: names, and for directories what is in them.
#[derive(Debug, Clone)]
enum Plan {
    File,
    Dir(BTreeMap<Vec<u8>, Plan>),
}

fn any_plan() -> impl Strategy<Value = BTreeMap<Vec<u8>, Plan>> {
    let name = || prop_oneof![any_name(), "[a-d]{1,3}".prop_map(String::into_bytes)];
    let leaf = prop_oneof![3 => Just(Plan::File), 1 => Just(Plan::Dir(BTreeMap::new()))];
    let plan = leaf
        .prop_recursive(5, 200, 12, move |inner| prop::collection::btree_map(name(), inner, 0..12).prop_map(Plan::Dir));
    prop::collection::btree_map(any_name(), plan, 0..20)
}

fn store(chunks: &MemoryChunks, plan: &BTreeMap<Vec<u8>, Plan>) -> DirRef {
    let nodes: Vec<Node> = plan
        .iter()
        .map(|(name, plan)| match plan {
            Plan::File => file(name),
            Plan::Dir(below) => dir(name, store(chunks, below)),
        })
        .collect();
    build(chunks, &nodes)
}

fn root(reference: DirRef) -> Node {
    Node { name: Vec::new(), meta: Meta::default(), body: Body::Dir(reference) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranks_are_places_in_the_preorder_walk(plan in any_plan()) {
        let chunks = Arc::new(MemoryChunks::new());
        let root = root(store(&chunks, &plan));
        let stored = stored(&chunks);
        let source = StoredSource::new(&stored, root.clone());
        let mut walk = Walk::new(&source, &source.root().unwrap()).unwrap();
        let mut rank = 0;
        let mut parents = vec![0];
        while let Some(step) = walk.next() {
            let Step::Met(entry) = step.unwrap() else {
                parents.pop();
                continue;
            };
            rank += 1;
            prop_assert_eq!(entry.place, rank);
            let found = stored.by_rank(&root, rank).unwrap().unwrap();
            prop_assert_eq!(&*found.node, &entry.node);
            prop_assert_eq!((found.rank, found.parent), (rank, parents[parents.len() - 1]));
            let resolved = stored.resolve(&root, walk.path()).unwrap().unwrap();
            prop_assert_eq!((&*resolved.node, resolved.rank, resolved.parent), (&entry.node, rank, found.parent));
            if entry.node.is_dir() {
                parents.push(rank);
            }
        }
        prop_assert_eq!(root.span(), rank + 1);
        prop_assert_eq!(parents, vec![0]);
        prop_assert!(stored.by_rank(&root, rank + 1).unwrap().is_none());
        prop_assert_eq!(&*stored.by_rank(&root, 0).unwrap().unwrap().node, &root);
    }

    #[test]
    fn lookup_and_listings_from_anywhere_agree(
        nodes in prop::collection::btree_map(any_name(), any_node(), 0..60),
        other in any_name(),
    ) {
        let chunks = Arc::new(MemoryChunks::new());
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|(name, node)| match node.body {
                // Counts of directories that are not there could not be added up.
                Body::Dir(_) => file(name),
                _ => Node { name, ..node },
            })
            .collect();
        let dir = build(&*chunks, &nodes);
        let stored = stored(&chunks);
        let all: Vec<Placed> = stored.entries(&dir, Start::Beginning).map(Result::unwrap).collect();
        prop_assert_eq!(all.iter().map(|placed| &*placed.node).collect::<Vec<_>>(), nodes.iter().collect::<Vec<_>>());
        let same = |a: Option<Result<Placed, TreeError>>, b: Option<&Placed>| match (a, b) {
            (None, None) => true,
            (Some(Ok(a)), Some(b)) => (&a.node, a.offset, a.index) == (&b.node, b.offset, b.index),
            _ => false,
        };
        for (i, placed) in all.iter().enumerate() {
            prop_assert!(same(stored.lookup(&dir, &placed.node.name).transpose(), Some(placed)));
            prop_assert!(same(stored.entries(&dir, Start::Nth(i as u64)).next(), Some(placed)));
            prop_assert!(same(stored.entries(&dir, Start::After(&placed.node.name)).next(), all.get(i + 1)));
        }
        prop_assert!(stored.entries(&dir, Start::Nth(all.len() as u64)).next().is_none());
        let found = all.iter().find(|placed| placed.node.name == other);
        prop_assert!(same(stored.lookup(&dir, &other).transpose(), found));
        let after = all.iter().find(|placed| placed.node.name > other);
        prop_assert!(same(stored.entries(&dir, Start::After(&other)).next(), after));
    }
}

#[test]
fn a_directory_of_many_pages_is_entered_anywhere() {
    const COUNT: u64 = 60_000;
    let chunks = Arc::new(MemoryChunks::new());
    // Every tenth entry is a directory of three.
    let below = build(&*chunks, &[file("x"), file("y"), file("z")]);
    let name = |i: u64| format!("{i:06}");
    let nodes: Vec<Node> = (0..COUNT).map(|i| if i % 10 == 0 { dir(name(i), below) } else { file(name(i)) }).collect();
    let all = build(&*chunks, &nodes);
    let root = root(all);
    let stored = stored(&chunks);
    assert_eq!((all.entries, all.nodes), (COUNT, COUNT + COUNT / 10 * 3));
    for i in (0..COUNT).step_by(997) {
        let offset = 1 + i + i.div_ceil(10) * 3;
        let placed = stored.lookup(&all, name(i).as_bytes()).unwrap().unwrap();
        assert_eq!((placed.index, placed.offset), (i, offset));
        for start in [Start::Nth(i), Start::After(format!("{:06}~", i as i64 - 1).as_bytes())] {
            let first = stored.entries(&all, start).next();
            if i > 0 {
                assert_eq!(first.unwrap().unwrap().offset, offset);
            }
        }
        let found = stored.by_rank(&root, offset).unwrap().unwrap();
        assert_eq!((&found.node.name[..], found.parent), (name(i).as_bytes(), 0));
        if i % 10 == 0 {
            let inner = stored.by_rank(&root, offset + 2).unwrap().unwrap();
            assert_eq!((&inner.node.name[..], inner.parent), (&b"y"[..], offset));
        }
    }
    assert_eq!(stored.entries(&all, Start::Nth(COUNT - 5)).count(), 5);
    assert!(stored.entries(&all, Start::Nth(u64::MAX)).next().is_none());
    assert!(stored.lookup(&all, b"~").unwrap().is_none());
    assert!(stored.resolve(&root, b"000010/y/z").unwrap().is_none());
    assert!(stored.resolve(&root, b"//000010//y/").unwrap().is_some());
}

#[test]
fn a_cached_lookup_reads_nothing() {
    let chunks = Arc::new(MemoryChunks::new());
    let nodes: Vec<Node> = (0..5000).map(|i| file(format!("{i:04}"))).collect();
    let dir = build(&*chunks, &nodes);
    let stored = stored(&chunks);
    stored.entries(&dir, Start::Beginning).for_each(|placed| drop(placed.unwrap()));
    let before = chunks.gets();
    assert!(stored.lookup(&dir, b"1234").unwrap().is_some());
    assert_eq!(chunks.gets(), before);
}

#[test]
fn pages_that_lie_are_damage() {
    let chunks = Arc::new(MemoryChunks::new());
    let nodes: Vec<Node> = (0..5000).map(|i| file(format!("{i:04}"))).collect();
    let honest = build(&*chunks, &nodes);
    for lie in [
        DirRef { entries: honest.entries + 1, nodes: honest.nodes + 1, ..honest },
        DirRef { nodes: honest.nodes + 1, ..honest },
        DirRef { bytes: 1, ..honest },
    ] {
        let stored = stored(&chunks);
        assert!(matches!(stored.lookup(&lie, b"1234"), Err(TreeError::Damaged { .. })));
        assert!(matches!(stored.entries(&lie, Start::Beginning).next(), Some(Err(TreeError::Damaged { .. }))));
        assert!(matches!(stored.by_rank(&root(lie), 5), Err(TreeError::Damaged { .. })));
    }
    // One page replaced by another, and by what is no page.
    let page = stored(&chunks);
    let Items::Inner(children) = &page.page(&honest.id).unwrap().items else { panic!("one page only") };
    let (first, second) = (children[0].id, children[1].id);
    let other = chunks.chunk(&second).unwrap().to_vec();
    for bytes in [other, b"no page".to_vec(), Vec::new(), vec![0x80, 1, 3]] {
        chunks.replace(&first, bytes);
        let stored = stored(&chunks);
        assert!(matches!(stored.lookup(&honest, b"0000"), Err(TreeError::Damaged { .. })));
        let mut listing = stored.entries(&honest, Start::Beginning);
        assert!(matches!(listing.next(), Some(Err(TreeError::Damaged { .. }))));
        assert!(listing.next().is_none());
        assert!(stored.lookup(&honest, b"4999").unwrap().is_some(), "what is not damaged stays readable");
    }
    chunks.remove(&first);
    assert!(matches!(stored(&chunks).lookup(&honest, b"0000"), Err(TreeError::Repo(_))));
}

#[test]
fn a_tree_of_depth_1000_is_walked() {
    let chunks = Arc::new(MemoryChunks::new());
    let mut below = build(&*chunks, &[file("leaf")]);
    for _ in 0..1000 {
        below = build(&*chunks, &[dir("d", below)]);
    }
    let stored = stored(&chunks);
    let root = root(below);
    assert_eq!(stored.by_rank(&root, 1001).unwrap().unwrap().node.name, b"leaf");
    let source = StoredSource::new(&stored, root);
    let mut walk = Walk::new(&source, &source.root().unwrap()).unwrap();
    assert_eq!(walk.by_ref().filter(|step| matches!(step, Ok(Step::Met(_)))).count(), 1001);
}

#[test]
fn a_walk_skips_and_survives_what_cannot_be_listed() {
    let chunks = Arc::new(MemoryChunks::new());
    let lost = build(&*chunks, &[file("lost")]);
    let kept = build(&*chunks, &[file("kept")]);
    let all = build(&*chunks, &[dir("a", kept), dir("b", kept), dir("c", lost), dir("d", kept)]);
    chunks.remove(&lost.id);
    let stored = stored(&chunks);
    let source = StoredSource::new(&stored, root(all));
    let mut walk = Walk::new(&source, &source.root().unwrap()).unwrap();
    let mut seen = Vec::new();
    while let Some(step) = walk.next() {
        let word = match step {
            Ok(Step::Met(Entry { .. })) => "met",
            Ok(Step::Left) => "left",
            Err(_) => "lost",
        };
        seen.push(format!("{word} {}", String::from_utf8_lossy(walk.path())));
        if walk.path() == b"a" && word == "met" {
            walk.skip_below();
        }
    }
    let expected = ["met a", "met b", "met b/kept", "left b", "met c", "lost c", "met d", "met d/kept", "left d"];
    assert_eq!(seen, expected);
    let put = chunks.put(Class::Tree, b"x").unwrap();
    assert!(stored.data(&put, 2).is_err() && stored.data(&put, 1).is_ok());
}
