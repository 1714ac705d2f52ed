//! Lists of members that take turns: doubly linked through the members, so that one leaves from anywhere at once.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    list: u32,
    before: u32,
    behind: u32,
}

/// Lists 0 to n of members 0 to m, each in one list at most.
#[derive(Debug)]
pub struct Rounds {
    links: Vec<Link>,
    /// First and last of each list.
    lists: Vec<(u32, u32)>,
}

impl Rounds {
    /// Empty lists.
    pub fn new(lists: usize, members: usize) -> Rounds {
        let none = Link {
            list: NONE,
            before: NONE,
            behind: NONE,
        };
        Rounds {
            links: vec![none; members],
            lists: vec![(NONE, NONE); lists],
        }
    }

    /// Whose turn it is: the first of the first list that has any, and that list.
    pub fn first(&self) -> Option<(u32, u32)> {
        let list = self.lists.iter().position(|l| l.0 != NONE)?;
        Some((list as u32, self.lists[list].0))
    }

    /// The list a member is in.
    pub fn list_of(&self, member: u32) -> Option<u32> {
        Some(self.links[member as usize].list).filter(|l| *l != NONE)
    }

    /// A member goes to the end of a list, from wherever it is.
    pub fn push(&mut self, list: u32, member: u32) {
        self.remove(member);
        let l = &mut self.lists[list as usize];
        let before = std::mem::replace(&mut l.1, member);
        match before {
            NONE => l.0 = member,
            b => self.links[b as usize].behind = member,
        }
        self.links[member as usize] = Link {
            list,
            before,
            behind: NONE,
        };
    }

    /// A member leaves its list.
    pub fn remove(&mut self, member: u32) {
        let Link {
            list,
            before,
            behind,
        } = self.links[member as usize];
        if list == NONE {
            return;
        }
        let l = &mut self.lists[list as usize];
        match before {
            NONE => l.0 = behind,
            b => self.links[b as usize].behind = behind,
        }
        match behind {
            NONE => l.1 = before,
            b => self.links[b as usize].before = before,
        }
        self.links[member as usize].list = NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_turns_and_leave_from_anywhere() {
        let mut r = Rounds::new(2, 5);
        for m in 0..5 {
            r.push(1, m);
        }
        r.remove(0);
        r.remove(2);
        r.remove(4);
        r.push(1, 2);
        let mut turns = Vec::new();
        while let Some((list, m)) = r.first() {
            assert_eq!((list, r.list_of(m)), (1, Some(1)));
            turns.push(m);
            r.remove(m);
        }
        assert_eq!(turns, [1, 3, 2]);
        r.push(1, 0);
        r.push(0, 4);
        assert_eq!(r.first(), Some((0, 4)));
        r.push(1, 4);
        assert_eq!((r.first(), r.list_of(4)), (Some((1, 0)), Some(1)));
    }
}
