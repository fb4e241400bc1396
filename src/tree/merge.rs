//! The lock-step walk of two sorted listings, under backup, diff and restore. Knows nothing of what is compared.

use super::{Entry, Node, Placed, TreeError};

/// What has a name to be sorted by.
pub trait Named {
    fn name(&self) -> &[u8];
}

impl Named for Node {
    fn name(&self) -> &[u8] {
        &self.name
    }
}

impl<P> Named for Entry<P> {
    fn name(&self) -> &[u8] {
        &self.node.name
    }
}

impl Named for Placed {
    fn name(&self) -> &[u8] {
        &self.node.name
    }
}

/// Entries of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair<A, B> {
    Left(A),
    Right(B),
    Both(A, B),
}

/// An `Err` item of one of the listings, passed on where it stood.
#[derive(Debug)]
pub enum SideError {
    Left(TreeError),
    Right(TreeError),
}

/// Walks two listings, both sorted by name.
pub fn merge_by_name<A, B, L, R>(left: L, right: R) -> Merge<A, B, L, R>
where
    A: Named,
    B: Named,
    L: Iterator<Item = Result<A, TreeError>>,
    R: Iterator<Item = Result<B, TreeError>>,
{
    Merge { left, right, left_next: None, right_next: None }
}

/// What `merge_by_name` gives.
pub struct Merge<A, B, L, R> {
    left: L,
    right: R,
    left_next: Option<A>,
    right_next: Option<B>,
}

impl<A, B, L, R> Iterator for Merge<A, B, L, R>
where
    A: Named,
    B: Named,
    L: Iterator<Item = Result<A, TreeError>>,
    R: Iterator<Item = Result<B, TreeError>>,
{
    type Item = Result<Pair<A, B>, SideError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left_next.is_none() {
            match self.left.next() {
                Some(Err(error)) => return Some(Err(SideError::Left(error))),
                next => self.left_next = next.and_then(Result::ok),
            }
        }
        if self.right_next.is_none() {
            match self.right.next() {
                Some(Err(error)) => return Some(Err(SideError::Right(error))),
                next => self.right_next = next.and_then(Result::ok),
            }
        }
        Some(Ok(match (self.left_next.take(), self.right_next.take()) {
            (None, None) => return None,
            (Some(left), None) => Pair::Left(left),
            (None, Some(right)) => Pair::Right(right),
            (Some(left), Some(right)) => match left.name().cmp(right.name()) {
                std::cmp::Ordering::Equal => Pair::Both(left, right),
                std::cmp::Ordering::Less => {
                    self.right_next = Some(right);
                    Pair::Left(left)
                }
                std::cmp::Ordering::Greater => {
                    self.left_next = Some(left);
                    Pair::Right(right)
                }
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::samples::file;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list<'a>(names: impl IntoIterator<Item = &'a String> + 'a) -> impl Iterator<Item = Result<Node, TreeError>> {
        names.into_iter().map(|name| Ok(file(name)))
    }

    proptest! {
        #[test]
        fn every_name_comes_once_and_in_order(left: BTreeSet<String>, right: BTreeSet<String>) {
            let mut names = Vec::new();
            for pair in merge_by_name(list(&left), list(&right)) {
                let (name, sides) = match pair.unwrap() {
                    Pair::Left(node) => (node.name, (true, false)),
                    Pair::Right(node) => (node.name, (false, true)),
                    Pair::Both(a, b) => {
                        prop_assert_eq!(&a.name, &b.name);
                        (a.name, (true, true))
                    }
                };
                let name = String::from_utf8(name).unwrap();
                prop_assert_eq!(sides, (left.contains(&name), right.contains(&name)));
                names.push(name);
            }
            prop_assert!(names.iter().eq(left.union(&right)));
        }
    }

    #[test]
    fn an_error_of_one_side_stands_where_it_was() {
        let error = || Err(TreeError::io(&b"x"[..], std::io::Error::other("x")));
        let left = [Ok(file("a")), error(), Ok(file("c"))];
        let right = [Ok(file("b")), Ok(file("c")), error()];
        let words: Vec<_> = merge_by_name(left.into_iter(), right.into_iter())
            .map(|pair| match pair {
                Ok(Pair::Left(node)) => format!("left {}", node.name[0] as char),
                Ok(Pair::Right(node)) => format!("right {}", node.name[0] as char),
                Ok(Pair::Both(node, _)) => format!("both {}", node.name[0] as char),
                Err(SideError::Left(_)) => "left error".to_owned(),
                Err(SideError::Right(_)) => "right error".to_owned(),
            })
            .collect();
        assert_eq!(words, ["left a", "left error", "right b", "both c", "right error"]);
    }
}
