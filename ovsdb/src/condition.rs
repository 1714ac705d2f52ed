//! Conditions and mutations (RFC 7047 5.1, `<condition>` and `<mutation>`).

use std::sync::Arc;

use serde_json::Value;

use crate::database::DbRow;
use crate::error::OvsdbError;
use crate::schema::{ColumnSchema, TableSchema, Type};
use crate::transaction::Mutator;
use crate::value::{Atom, AtomType, Datum, Real, Symbols, Uuid};

/// A column of a table, the implicit ones included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column {
    Uuid,
    Version,
    Named(Arc<ColumnSchema>),
}

impl Column {
    pub(crate) fn find(table: &TableSchema, name: &str) -> Option<Self> {
        match name {
            "_uuid" => Some(Column::Uuid),
            "_version" => Some(Column::Version),
            _ => table.column(name).cloned().map(Column::Named),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Column::Uuid => "_uuid",
            Column::Version => "_version",
            Column::Named(c) => &c.name,
        }
    }

    pub(crate) fn ty(&self) -> Type {
        match self {
            Column::Uuid | Column::Version => Type::scalar(AtomType::Uuid),
            Column::Named(c) => c.ty.clone(),
        }
    }

    pub(crate) fn with<R>(&self, row: &DbRow, f: impl FnOnce(&Datum) -> R) -> R {
        match self {
            Column::Uuid => f(&row.uuid.into()),
            Column::Version => f(&row.version.into()),
            Column::Named(c) => f(&row.cells[c.index]),
        }
    }
}

/// `<function>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Lt,
    Le,
    Eq,
    Ne,
    Ge,
    Gt,
    Includes,
    Excludes,
}

impl Function {
    const ALL: [Self; 8] = [
        Self::Lt,
        Self::Le,
        Self::Eq,
        Self::Ne,
        Self::Ge,
        Self::Gt,
        Self::Includes,
        Self::Excludes,
    ];

    /// Its name in JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Ge => ">=",
            Self::Gt => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Clause {
    pub(crate) column: Column,
    pub(crate) function: Function,
    pub(crate) arg: Datum,
}

/// A list of clauses that must all hold. For `monitor_cond` a clause may be a mere boolean, and
/// one clause that holds is enough (ovsdb-server(7) 4.1.12), see [`Condition::any`].
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Condition {
    pub(crate) clauses: Vec<Clause>,
    /// A `false` among the clauses.
    pub(crate) never: bool,
    /// A `true` among the clauses of a monitor, which one is enough.
    pub(crate) always: bool,
}

fn ordered(f: Function) -> bool {
    matches!(f, Function::Lt | Function::Le | Function::Ge | Function::Gt)
}

impl Condition {
    pub(crate) fn parse(
        table: &TableSchema,
        json: &Value,
        mut symbols: Option<&mut Symbols>,
    ) -> Result<Self, OvsdbError> {
        let list = json
            .as_array()
            .ok_or_else(|| OvsdbError::syntax(json, "array expected"))?;
        let mut out = Self::default();
        for clause in list {
            match clause {
                Value::Bool(true) => out.always = true,
                Value::Bool(false) => out.never = true,
                _ => out
                    .clauses
                    .push(Self::clause(table, clause, symbols.as_deref_mut())?),
            }
        }
        Ok(out)
    }

    fn clause(
        table: &TableSchema,
        json: &Value,
        symbols: Option<&mut Symbols>,
    ) -> Result<Clause, OvsdbError> {
        let Some([Value::String(name), Value::String(function), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(OvsdbError::syntax(json, "Parse error in condition."));
        };
        let column =
            Column::find(table, name).ok_or_else(|| unknown_column(table, name).at(json))?;
        let function_name = function.as_str();
        let function = Function::ALL
            .into_iter()
            .find(|f| f.name() == function_name)
            .ok_or_else(|| {
                OvsdbError::new(
                    "unknown function",
                    format!("No function named {function_name}."),
                )
            })?;
        let ty = column.ty();
        let arg = match function {
            _ if ordered(function) => {
                let number = matches!(ty.key.atom, AtomType::Integer | AtomType::Real);
                if !number || ty.is_map() || ty.max != 1 {
                    return Err(OvsdbError::syntax(
                        json,
                        format!(
                            "Type mismatch: \"{function_name}\" operator may not be applied to column {name} of type {}.",
                            ty.describe()
                        ),
                    ));
                }
                parse_arg(&Type { min: 1, ..ty }, arg, symbols)?
            }
            // What is looked for within a set may be any part of it; what must not be there, more.
            Function::Includes if !ty.is_scalar() => {
                parse_arg(&Type { min: 0, ..ty }, arg, symbols)?
            }
            Function::Excludes if !ty.is_scalar() => {
                let any = Type {
                    min: 0,
                    max: u32::MAX,
                    ..ty
                };
                parse_arg(&any, arg, symbols)?
            }
            _ => parse_arg(&ty, arg, symbols)?,
        };
        Ok(Clause {
            column,
            function,
            arg,
        })
    }

    /// Appends a text that is the same for conditions that say the same in the same order.
    pub(crate) fn write_key(&self, out: &mut String) {
        out.push_str(match (self.never, self.always) {
            (false, false) => "",
            (true, false) => "false",
            (false, true) => "true",
            (true, true) => "both",
        });
        for c in &self.clauses {
            out.push_str(c.column.name());
            out.push_str(c.function.name());
            c.arg.write_json(out);
        }
    }

    /// True where all clauses hold.
    pub(crate) fn all(&self, row: &DbRow) -> bool {
        !self.never && self.clauses.iter().all(|c| c.holds(row))
    }

    /// True where one clause holds, or there is none.
    pub(crate) fn any(&self, row: &DbRow) -> bool {
        if self.clauses.is_empty() && !self.always {
            return !self.never;
        }
        self.always || self.clauses.iter().any(|c| c.holds(row))
    }

    /// The row that is the only one that can fit, if the condition says which.
    pub(crate) fn only_uuid(&self) -> Option<Uuid> {
        self.clauses.iter().find_map(|c| {
            (c.column == Column::Uuid && matches!(c.function, Function::Eq | Function::Includes))
                .then(|| c.arg.as_scalar_uuid())
                .flatten()
        })
    }

    /// The value a column must be equal to, if the condition says so.
    pub(crate) fn equal_to(&self, column: usize) -> Option<&Datum> {
        self.clauses.iter().find_map(|c| match &c.column {
            Column::Named(n) if n.index == column && c.function == Function::Eq => Some(&c.arg),
            _ => None,
        })
    }
}

fn parse_arg(ty: &Type, json: &Value, symbols: Option<&mut Symbols>) -> Result<Datum, OvsdbError> {
    match symbols {
        Some(s) => Datum::from_json_named(ty, json, s),
        None => Datum::from_json(ty, json),
    }
}

pub(crate) fn unknown_column(table: &TableSchema, name: &str) -> OvsdbError {
    OvsdbError::new(
        "unknown column",
        format!("No column {name} in table {}.", table.name),
    )
}

impl Clause {
    fn holds(&self, row: &DbRow) -> bool {
        let arg = &self.arg;
        self.column.with(row, |v| match self.function {
            Function::Eq => v == arg,
            Function::Ne => v != arg,
            Function::Includes => v.includes(arg),
            Function::Excludes => v.excludes(arg),
            f => match (v.as_scalar(), arg.as_scalar()) {
                (Some(v), Some(a)) => match f {
                    Function::Lt => v < a,
                    Function::Le => v <= a,
                    Function::Ge => v >= a,
                    _ => v > a,
                },
                _ => false,
            },
        })
    }
}

/// A change of one column.
#[derive(Debug, Clone)]
pub(crate) struct Mutation {
    pub(crate) column: Arc<ColumnSchema>,
    mutator: Mutator,
    arg: Datum,
}

impl Mutation {
    pub(crate) fn parse(
        table: &TableSchema,
        json: &Value,
        symbols: &mut Symbols,
    ) -> Result<Self, OvsdbError> {
        let Some([Value::String(name), Value::String(mutator), arg]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(OvsdbError::syntax(json, "Parse error in mutation."));
        };
        let column = match Column::find(table, name) {
            None => return Err(unknown_column(table, name).at(json)),
            Some(Column::Named(c)) if c.mutable => c,
            Some(_) => {
                return Err(OvsdbError::constraint(format!(
                    "Cannot mutate immutable column {name} in table {}.",
                    table.name
                ))
                .at(json));
            }
        };
        let m = Mutator::from_name(mutator).ok_or_else(|| {
            OvsdbError::new("unknown mutator", format!("No mutator named {mutator}."))
        })?;
        let ty = &column.ty;
        let mismatch = || {
            OvsdbError::syntax(
                json,
                format!(
                    "Type mismatch: \"{mutator}\" operator may not be applied to column {name} of type {}.",
                    ty.describe()
                ),
            )
        };
        let arg = match m {
            Mutator::Insert | Mutator::Delete => {
                if ty.is_scalar() {
                    return Err(mismatch());
                }
                match Datum::from_json_any_size(ty, arg, Some(symbols)) {
                    // From a map also keys alone can be deleted.
                    Err(_) if m == Mutator::Delete && ty.is_map() => {
                        let keys = Type {
                            value: None,
                            min: 0,
                            max: u32::MAX,
                            key: ty.key.clone(),
                        };
                        Datum::from_json_any_size(&keys, arg, Some(symbols))?
                    }
                    parsed => parsed?,
                }
            }
            _ => {
                let number = ty.key.atom == AtomType::Integer
                    || (ty.key.atom == AtomType::Real && m != Mutator::Remainder);
                if !number || ty.is_map() {
                    return Err(mismatch());
                }
                Datum::from_json(&Type::scalar(ty.key.atom), arg)?
            }
        };
        Ok(Self {
            column,
            mutator: m,
            arg,
        })
    }

    /// The value it makes of another.
    pub(crate) fn apply(&self, old: &Datum) -> Result<Datum, OvsdbError> {
        let ty = &self.column.ty;
        let new = match self.mutator {
            Mutator::Insert => old.union(&self.arg),
            Mutator::Delete => old.subtract(&self.arg),
            m => {
                let Some(arg) = self.arg.as_scalar() else {
                    return Ok(old.clone());
                };
                let mut atoms = Vec::with_capacity(old.len());
                for a in old.iter() {
                    let a = compute(m, a, arg)?;
                    ty.key.check(&a)?;
                    atoms.push(a);
                }
                let n = atoms.len();
                let new = Datum::set(atoms);
                if new.len() != n {
                    return Err(OvsdbError::constraint(format!(
                        "Result of \"{}\" operation contains duplicates.",
                        m.name()
                    )));
                }
                return Ok(new);
            }
        };
        ty.check_size(&new).map_err(|_| {
            OvsdbError::constraint(format!(
                "Attempted to store {} elements in {}.",
                new.len(),
                ty.describe()
            ))
        })?;
        Ok(new)
    }
}

fn compute(m: Mutator, a: &Atom, b: &Atom) -> Result<Atom, OvsdbError> {
    let range = || {
        OvsdbError::new(
            "range error",
            format!("Result of \"{}\" operation is out of range.", m.name()),
        )
    };
    let domain = || OvsdbError::new("domain error", "Division by zero.");
    match (a, b) {
        (Atom::Integer(a), Atom::Integer(b)) => match m {
            Mutator::Add => a.checked_add(*b),
            Mutator::Subtract => a.checked_sub(*b),
            Mutator::Multiply => a.checked_mul(*b),
            Mutator::Divide | Mutator::Remainder if *b == 0 => return Err(domain()),
            Mutator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Atom::Integer)
        .ok_or_else(range),
        (Atom::Real(Real(a)), Atom::Real(Real(b))) => {
            let r = match m {
                Mutator::Add => a + b,
                Mutator::Subtract => a - b,
                Mutator::Multiply => a * b,
                _ if *b == 0.0 => return Err(domain()),
                _ => a / b,
            };
            if r.is_finite() {
                Ok(Atom::Real(Real(r)))
            } else {
                Err(range())
            }
        }
        _ => Err(range()),
    }
}
