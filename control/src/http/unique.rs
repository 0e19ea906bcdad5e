//! JSON that says nothing twice.
//!
//! Readers take the last of two equal keys, or the first, so `{"weight": 1, "weight": 0}` means what nobody can tell. TOML refuses
//! it, and edits are held to what the file is.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Looks through a text.
///
/// # Errors
/// It is no JSON, or a key of an object is there twice.
pub(super) fn look_through(text: &[u8]) -> serde_json::Result<()> {
    let mut read = serde_json::Deserializer::from_slice(text);
    Unique.deserialize(&mut read)?;
    read.end()
}

/// Any value, which is read and forgotten.
#[derive(Clone, Copy)]
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut of: A) -> Result<(), A::Error> {
        let mut known = HashSet::new();
        while let Some(key) = of.next_key::<String>()? {
            if known.contains(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            known.insert(key);
            of.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut of: A) -> Result<(), A::Error> {
        while of.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_named_wherever_it_is() {
        for good in [
            "{}",
            "[]",
            "null",
            r#"{"a": {"b": 1}, "b": [{"b": 1}, {"b": -2.5e3}, true, "b", 18446744073709551616]}"#,
        ] {
            assert!(look_through(good.as_bytes()).is_ok(), "{good}");
        }
        for twice in
            [r#"{"b": 1, "b": 1}"#, r#"{"a": [{"x": {"b": 1, "c": 2, "b": 3}}]}"#, r#"{"b": 1, "\u0062": 1}"#]
        {
            let said = look_through(twice.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("the key \"b\" is there twice"), "{twice}: {said}");
        }
        let deep = "[".repeat(100_000);
        for bad in ["{", "{} x", &deep, "", "{\"a\" 1}"] {
            assert!(look_through(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }
}
