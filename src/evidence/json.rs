//! Objects and lists that are taken field by field and item by item, so that none is kept as a whole. What two readers
//! would understand differently is refused, as in documents: a field twice, or in disguise.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::guard::Budget;
use crate::error::{Error, Kind, Result};
use crate::oci::fold;

/// What all parts of one reading share.
pub(super) struct Reading<S> {
    /// What was learned so far.
    pub state: S,
    pub budget: Budget,
    /// Why it was broken off, where it was not the JSON's fault.
    pub failure: Option<Error>,
}

impl<S> Reading<S> {
    pub fn new(state: S, budget: Budget) -> Self {
        Reading { state, budget, failure: None }
    }

    /// Breaks off: the parser only learns that it did.
    pub fn fail<E: serde::de::Error>(&mut self, error: Error) -> E {
        let said = E::custom(error.sentence());
        self.failure.get_or_insert(error);
        said
    }

    fn pass<T, E: serde::de::Error>(&mut self, result: Result<T>) -> Result<T, E> {
        result.map_err(|error| self.fail(error))
    }
}

/// An object whose fields are taken one by one.
pub(super) trait Fields<S> {
    /// Its fields that somebody looks for.
    const KNOWN: &'static [&'static str];

    /// Takes the value of one of these fields.
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        reading: &mut Reading<S>,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error>;

    /// It ended.
    fn done(self, _: &mut S) -> Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }
}

/// Reads an object; anything else is passed over.
pub(super) struct Object<'r, S, F> {
    pub reading: &'r mut Reading<S>,
    pub fields: F,
}

/// Reads a list of objects; anything else is passed over.
pub(super) struct List<'r, S, F> {
    pub reading: &'r mut Reading<S>,
    pub each: PhantomData<F>,
}

/// Reads a list of items, each kept in memory as long as somebody looks at it.
pub(super) struct Each<'r, S, T, F> {
    pub reading: &'r mut Reading<S>,
    pub take: F,
    pub item: PhantomData<T>,
}

/// The value of a field, item by item.
pub(super) fn each<'de, S, T, A>(
    map: &mut A,
    reading: &mut Reading<S>,
    take: impl FnMut(&mut S, T) -> Result<()>,
) -> Result<(), A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    map.next_value_seed(Each { reading, take, item: PhantomData })
}

/// The value of a field, as one item.
pub(super) fn one<'de, S, T, A>(map: &mut A, reading: &Reading<S>) -> Result<Option<T>, A::Error>
where
    T: DeserializeOwned,
    A: MapAccess<'de>,
{
    reading.budget.begin();
    let value = map.next_value::<Lenient<T>>()?;
    reading.budget.end();
    Ok(value.0)
}

/// The value of a field, where it is a list of objects.
pub(super) fn list<'de, S, F, A>(map: &mut A, reading: &mut Reading<S>) -> Result<(), A::Error>
where
    F: Fields<S> + Default,
    A: MapAccess<'de>,
{
    map.next_value_seed(List { reading, each: PhantomData::<F> })
}

/// The value of a field, where it is an object.
pub(super) fn object<'de, S, F, A>(map: &mut A, reading: &mut Reading<S>, fields: F) -> Result<(), A::Error>
where
    F: Fields<S>,
    A: MapAccess<'de>,
{
    map.next_value_seed(Object { reading, fields })
}

/// A value, or something of another type, which says nothing: a field of another type is no mistake in a document of a
/// kind that nobody looks for.
pub(super) struct Lenient<T>(pub Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Lenient(Some(value))),
            Err(error) if is_twice(&error) => Err(D::Error::custom(error)),
            Err(_) => Ok(Lenient(None)),
        }
    }
}

/// Whether a field that somebody looks for stands twice.
fn is_twice(error: &serde_json::Error) -> bool {
    error.to_string().contains("duplicate field")
}

/// What was seen of an object's fields.
struct Seen {
    known: &'static [&'static str],
    seen: Vec<bool>,
}

impl Seen {
    fn of(known: &'static [&'static str]) -> Self {
        Seen { known, seen: vec![false; known.len()] }
    }

    /// Whether it is a field that somebody looks for.
    fn take(&mut self, key: &str) -> Result<bool> {
        // Longer than any of them, whatever it is folded to.
        if key.len() > 64 {
            return Ok(false);
        }
        let folded = fold(key);
        let same = |name: &&str| fold(name) == folded;
        let ambiguous = |what: String| {
            Error::new(Kind::DocumentAmbiguous, "a report that readers understand differently")
                .got(what)
                .hint("an honest tool does not write this: have the report made again")
        };
        match self.known.iter().position(|name| *name == key) {
            Some(at) => match self.seen.get_mut(at) {
                Some(seen) if *seen => Err(ambiguous(format!("the key {key:?} twice"))),
                Some(seen) => {
                    *seen = true;
                    Ok(true)
                }
                None => Ok(false),
            },
            None => match self.known.iter().find(|name| same(name)) {
                Some(name) => {
                    Err(ambiguous(format!("the key {key:?}, which some readers take for {name:?}")))
                }
                None => Ok(false),
            },
        }
    }
}

impl<'de, S, F: Fields<S>> DeserializeSeed<'de> for Object<'_, S, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Values that are passed over.
macro_rules! nothing_else {
    ($($kind:ident)+) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        nothing_else!(@bool visit_bool bool, visit_i64 i64, visit_u64 u64, visit_f64 f64, visit_str &str);

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        $(nothing_else!(@$kind);)+
    };
    (@bool $($visit:ident $type:ty),+) => { $(
        fn $visit<E>(self, _: $type) -> Result<(), E> {
            Ok(())
        }
    )+ };
    (@list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(())
        }
    };
    (@object) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(())
        }
    };
}

/// For fields that hold a list, or nothing: anything else in its place is not passed over as if it were empty.
macro_rules! list_or_null {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

impl<'de, S, F: Fields<S>> Visitor<'de> for Object<'_, S, F> {
    type Value = ();

    nothing_else!(list);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { reading, mut fields } = self;
        let mut seen = Seen::of(F::KNOWN);
        while let Some(key) = map.next_key::<String>()? {
            let known = seen.take(&key);
            match reading.pass(known)? {
                true => fields.field(reading, &key, &mut map)?,
                false => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        let done = fields.done(&mut reading.state);
        reading.pass(done)
    }
}

impl<'de, S, F: Fields<S> + Default> DeserializeSeed<'de> for List<'_, S, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S, F: Fields<S> + Default> Visitor<'de> for List<'_, S, F> {
    type Value = ();

    list_or_null!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Object { reading: self.reading, fields: F::default() })?.is_some() {}
        Ok(())
    }
}

impl<'de, S, T, F> DeserializeSeed<'de> for Each<'_, S, T, F>
where
    T: Deserialize<'de>,
    F: FnMut(&mut S, T) -> Result<()>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S, T, F> Visitor<'de> for Each<'_, S, T, F>
where
    T: Deserialize<'de>,
    F: FnMut(&mut S, T) -> Result<()>,
{
    type Value = ();

    list_or_null!();

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        loop {
            self.reading.budget.begin();
            let item = list.next_element::<T>()?;
            self.reading.budget.end();
            let Some(item) = item else { return Ok(()) };
            let taken = (self.take)(&mut self.reading.state, item);
            self.reading.pass(taken)?;
        }
    }
}

/// What a parser found wrong, told as what it is.
pub(super) fn failed<S>(error: serde_json::Error, reading: &mut Reading<S>) -> Error {
    if let Some(failure) = reading.failure.take() {
        return failure;
    }
    if error.is_io() {
        return told(std::io::Error::from(error));
    }
    match is_twice(&error) {
        true => {
            Error::new(Kind::DocumentAmbiguous, "a report that readers understand differently").got(error)
        }
        false => Error::new(Kind::DocumentInvalid, "not a report that can be read").got(error),
    }
}

/// What was found wrong behind a reader's interface.
pub(super) fn told(error: std::io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| Error::new(Kind::Io, "cannot read a report").got(error))
}

/// The error that stands for a field that a rule needs.
pub(super) fn lacks(what: &str) -> Error {
    Error::new(Kind::DocumentInvalid, "a report lacks what it must have").expected(what)
}
