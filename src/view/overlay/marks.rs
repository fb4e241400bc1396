//! What the kernel's overlayfs writes into its upper layer to say how that differs from the layer below: extended
//! attributes of its own, and whiteouts. Knows nothing of trees.

use crate::tree::{Body, Node, Xattr};
use crate::view::stage::Keeper;

/// How the overlay's own attributes begin. What users give such names is kept one `overlay.` further in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkNames(&'static str);

const ESCAPE: &[u8] = b"overlay.";

/// What is marked on one entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// Of a directory: nothing of the base shines through.
    pub opaque: bool,
    /// Where in the base it was, other than by its own name: from the base's root if it begins with a slash, else
    /// another name in the same directory of the base.
    pub redirect: Option<Vec<u8>>,
    /// Of a file: attributes alone, its data is the base's.
    pub metacopy: bool,
}

impl Marks {
    /// Takes the overlay's own attributes out, and gives those of users their names back.
    pub fn take(names: MarkNames, xattrs: &mut Vec<Xattr>) -> Self {
        let mut marks = Self::default();
        let mut renamed = false;
        xattrs.retain_mut(|xattr| {
            let Some(own) = xattr.name.strip_prefix(names.0.as_bytes()) else { return true };
            if let Some(name) = names.unescaped(&xattr.name) {
                xattr.name = name;
                renamed = true;
                return true;
            }
            match own {
                b"opaque" => marks.opaque = xattr.value == b"y",
                b"redirect" => marks.redirect = Some(std::mem::take(&mut xattr.value)),
                b"metacopy" => marks.metacopy = true,
                // Hints of the kernel's to itself.
                _ => {}
            }
            false
        });
        if renamed {
            xattrs.sort_unstable();
        }
        marks
    }
}

/// Whether an entry of the upper layer says that there is none.
pub(super) fn is_whiteout(node: &Node) -> bool {
    node.body == Body::CharDevice(0)
}

impl MarkNames {
    /// Those that only root can set, or those of a user's own overlay (the mount option `userxattr`).
    pub const fn of(keeper: Keeper) -> Self {
        Self(if matches!(keeper, Keeper::PrivateOverlay) { "user.overlay." } else { "trusted.overlay." })
    }

    /// The name of the mark of a directory through which nothing of the base shines.
    pub fn opaque(self) -> String {
        format!("{}opaque", self.0)
    }

    /// Whether the overlay would take an attribute of this name for its own.
    pub fn is_own(self, name: &[u8]) -> bool {
        name.starts_with(self.0.as_bytes())
    }

    /// The name that an attribute has in a layer, where users see it as `name`.
    pub fn escaped(self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.0.as_bytes()) {
            Some(rest) => [self.0.as_bytes(), ESCAPE, rest].concat(),
            None => name.to_vec(),
        }
    }

    /// The name that users see, where an attribute is one of theirs that had to be renamed in a layer.
    pub fn unescaped(self, name: &[u8]) -> Option<Vec<u8>> {
        let rest = name.strip_prefix(self.0.as_bytes())?.strip_prefix(ESCAPE)?;
        Some([self.0.as_bytes(), rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: MarkNames = MarkNames::of(Keeper::Overlay);
    const USER: MarkNames = MarkNames::of(Keeper::PrivateOverlay);

    fn xattrs(list: &[(&str, &str)]) -> Vec<Xattr> {
        list.iter().map(|(name, value)| Xattr { name: (*name).into(), value: (*value).into() }).collect()
    }

    #[test]
    fn own_attributes_are_taken_out_and_those_of_users_stay() {
        let mut list = xattrs(&[
            ("trusted.overlay.impure", "y"),
            ("trusted.overlay.metacopy", ""),
            ("trusted.overlay.opaque", "y"),
            ("trusted.overlay.origin", "\u{1}"),
            ("trusted.overlay.redirect", "/a/b"),
            ("trusted.overlayed", "mine"),
            ("user.x", "1"),
        ]);
        let marks = Marks::take(ROOT, &mut list);
        assert_eq!(marks, Marks { opaque: true, redirect: Some(b"/a/b".to_vec()), metacopy: true });
        assert_eq!(list, xattrs(&[("trusted.overlayed", "mine"), ("user.x", "1")]));
        assert_eq!(Marks::take(ROOT, &mut list), Marks::default());
        assert!(!Marks::take(ROOT, &mut xattrs(&[("trusted.overlay.opaque", "x")])).opaque);
    }

    #[test]
    fn attributes_of_a_user_that_look_like_the_overlays_own_come_back() {
        let names = ["trusted.a", "trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "user.z"];
        let there: Vec<Xattr> =
            names.iter().map(|name| Xattr { name: ROOT.escaped(name.as_bytes()), value: b"y".to_vec() }).collect();
        let mut list = there.clone();
        list.push(Xattr { name: b"trusted.overlay.origin".to_vec(), value: Vec::new() });
        list.sort_unstable();
        assert_eq!(Marks::take(ROOT, &mut list), Marks::default());
        assert_eq!(list.iter().map(|xattr| &xattr.name[..]).collect::<Vec<_>>(), names.map(str::as_bytes));
        assert!(ROOT.is_own(b"trusted.overlay.x") && !ROOT.is_own(b"user.overlay.x"));
        assert_eq!((ROOT.unescaped(b"trusted.overlay.x"), ROOT.unescaped(b"user.x")), (None, None));
    }

    #[test]
    fn a_users_overlay_has_marks_of_other_names() {
        let mut list = xattrs(&[("trusted.overlay.opaque", "y"), ("user.overlay.redirect", "name")]);
        let redirected = Marks { redirect: Some(b"name".to_vec()), ..Marks::default() };
        assert_eq!(Marks::take(USER, &mut list), redirected);
        assert_eq!(list, xattrs(&[("trusted.overlay.opaque", "y")]));
        assert_eq!((ROOT.opaque(), USER.opaque()), ("trusted.overlay.opaque".into(), "user.overlay.opaque".into()));
    }
}
