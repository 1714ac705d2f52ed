//! Which connection is primary, secondary or equal (OpenFlow 1.3.5 6.3.6).

use super::ConnId;
use openflow::error::ErrorKind;
use openflow::{OfError, Role, RoleMsg};
use std::collections::BTreeMap;

/// The roles of one bridge's connections.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    generation: Option<u64>,
    roles: BTreeMap<ConnId, Role>,
    /// What controllers call themselves (OpenFlow 1.5).
    short_ids: BTreeMap<ConnId, u16>,
}

impl Roles {
    /// A connection's role; equal unless it asked for another.
    pub fn role(&self, id: ConnId) -> Role {
        self.roles.get(&id).copied().unwrap_or(Role::Equal)
    }

    /// The short id a connection gave itself, 0 for none.
    pub fn short_id(&self, id: ConnId) -> u16 {
        self.short_ids.get(&id).copied().unwrap_or(0)
    }

    /// Answers a role request of Nicira's, which knows no generations: the answer, and who is no longer
    /// primary by it.
    pub fn request_nicira(
        &mut self,
        id: ConnId,
        role: Role,
    ) -> Result<(RoleMsg, Vec<ConnId>), OfError> {
        let known = self.generation;
        let answer = self.request(
            id,
            RoleMsg {
                role,
                generation: known.unwrap_or(0),
                short_id: 0,
            },
        )?;
        self.generation = known;
        Ok(answer)
    }

    /// Answers a role request: the role it now has and the generation, and who is no longer primary by
    /// it.
    pub fn request(
        &mut self,
        id: ConnId,
        asked: RoleMsg,
    ) -> Result<(RoleMsg, Vec<ConnId>), OfError> {
        let mut demoted = Vec::new();
        match asked.role {
            Role::NoChange => {}
            Role::Equal => {
                self.roles.insert(id, Role::Equal);
            }
            Role::Primary | Role::Secondary => {
                if let Some(have) = self.generation
                    && (asked.generation.wrapping_sub(have) as i64) < 0
                {
                    return Err(OfError::new(
                        ErrorKind::RoleStale,
                        format!("generation {} is older than {have}", asked.generation),
                    ));
                }
                self.generation = Some(asked.generation);
                if asked.role == Role::Primary {
                    for (who, role) in &mut self.roles {
                        if *role == Role::Primary && *who != id {
                            *role = Role::Secondary;
                            demoted.push(*who);
                        }
                    }
                }
                self.roles.insert(id, asked.role);
            }
        }
        if asked.short_id != 0 {
            self.short_ids.insert(id, asked.short_id);
        }
        let answer = RoleMsg {
            role: self.role(id),
            generation: self.generation.unwrap_or(u64::MAX),
            short_id: self.short_id(id),
        };
        Ok((answer, demoted))
    }

    /// Forgets a connection.
    pub fn leave(&mut self, id: ConnId) {
        self.roles.remove(&id);
        self.short_ids.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(role: Role, generation: u64) -> RoleMsg {
        RoleMsg {
            role,
            generation,
            short_id: 0,
        }
    }

    #[test]
    fn a_new_primary_demotes_the_old_one_and_stale_generations_are_refused() {
        let mut r = Roles::default();
        assert_eq!(
            r.request(1, ask(Role::NoChange, 0)).unwrap(),
            (ask(Role::Equal, u64::MAX), vec![])
        );
        assert_eq!(
            r.request(1, ask(Role::Primary, 5)).unwrap(),
            (ask(Role::Primary, 5), vec![])
        );
        assert_eq!(
            r.request(2, ask(Role::Primary, 6)).unwrap(),
            (ask(Role::Primary, 6), vec![1])
        );
        assert_eq!(r.role(1), Role::Secondary);
        assert_eq!(
            r.request(1, ask(Role::Primary, 5)).unwrap_err().kind,
            ErrorKind::RoleStale
        );
        assert_eq!(r.role(2), Role::Primary);
        // The distance is signed: numbers may run over.
        r.request(2, ask(Role::Secondary, u64::MAX / 2)).unwrap();
        r.request(2, ask(Role::Secondary, u64::MAX - 1)).unwrap();
        r.request(2, ask(Role::Secondary, 3)).unwrap();
        assert!(r.request(2, ask(Role::Secondary, u64::MAX)).is_err());
        r.leave(2);
        assert_eq!(r.role(2), Role::Equal);
    }
}
