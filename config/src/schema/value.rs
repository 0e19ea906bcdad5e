//! Values as written: the type TOML gave them, the place, and the complaint when the type is wrong.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

/// A key that may be there. `None`: it is not. Most are not, and a large file has a hundred thousand tables, so one that is not takes a
/// pointer's room.
pub(crate) type Field<T> = Option<Box<Spanned<Lenient<T>>>>;

/// A table, `[...]`.
pub(crate) type OneTable<T> = Field<Tabular<T>>;

/// An array of tables, `[[...]]`.
pub(crate) type Tables<T> = Field<List<Tabular<T>>>;

/// A table, `[...]`, or an array of them, `[[...]]`.
pub(crate) type SeveralTables<T> = Field<Several<T>>;

/// A value, or serde's words about why it is not one of type `T`.
///
/// toml hands out values of a parsed tree, so a refused value does not disturb its neighbours.
#[derive(Debug)]
pub(crate) struct Lenient<T>(pub(crate) Result<T, String>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).map_err(|error| error.to_string())))
    }
}

/// A struct that is written as a table. Derived structs would also take an array of their values.
#[derive(Debug)]
pub(crate) struct Tabular<T>(pub(crate) T);

/// A string.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) String);

/// A whole number. One that does not fit is held at the nearest end, which no range of the file reaches.
#[derive(Debug)]
pub(crate) struct Integer(pub(crate) i64);

/// As `Integer`, with room for every `u64`.
#[derive(Debug)]
pub(crate) struct LongInteger(pub(crate) i128);

/// A port or a range of ports: a whole number, or a string such as "8000-8999".
#[derive(Debug)]
pub(crate) struct Ports(pub(crate) String);

/// A whole number, or a word that stands for one that is not known yet: as text.
#[derive(Debug)]
pub(crate) struct NumberOrWord(pub(crate) String);

/// A number, whole or not.
#[derive(Debug)]
pub(crate) struct Number(pub(crate) f64);

/// `true` or `false`.
#[derive(Debug)]
pub(crate) struct Boolean(pub(crate) bool);

/// A switch of the kernel: a boolean, or 0 and 1 as sysctl writes them.
#[derive(Debug)]
pub(crate) struct Switch(pub(crate) bool);

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Ports {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// An array, each element with its own place and complaint.
#[derive(Debug)]
pub(crate) struct List<T>(pub(crate) Vec<Spanned<Lenient<T>>>);

/// One table or several.
#[derive(Debug)]
pub(crate) enum Several<T> {
    One(T),
    Many(List<Tabular<T>>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeveralVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SeveralVisitor<T> {
            type Value = Several<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or an array of tables")
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Several<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Several::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Several<T>, A::Error> {
                List::deserialize(SeqAccessDeserializer::new(elements)).map(Several::Many)
            }
        }
        deserializer.deserialize_any(SeveralVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tabular<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Tabular<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }
            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Tabular<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Tabular)
            }
        }
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
                Ok(Integer(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<Integer, E> {
                Ok(Integer(if number < 0 { i64::MIN } else { i64::MAX }))
            }
            fn visit_u128<E: Error>(self, _: u128) -> Result<Integer, E> {
                Ok(Integer(i64::MAX))
            }
        }
        deserializer.deserialize_i64(IntegerVisitor)
    }
}

impl<'de> Deserialize<'de> for LongInteger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LongIntegerVisitor;
        impl Visitor<'_> for LongIntegerVisitor {
            type Value = LongInteger;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<LongInteger, E> {
                Ok(LongInteger(number.into()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<LongInteger, E> {
                Ok(LongInteger(number.into()))
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<LongInteger, E> {
                Ok(LongInteger(number))
            }
            fn visit_u128<E: Error>(self, _: u128) -> Result<LongInteger, E> {
                Ok(LongInteger(i128::MAX))
            }
        }
        deserializer.deserialize_i128(LongIntegerVisitor)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortsVisitor;
        impl Visitor<'_> for PortsVisitor {
            type Value = Ports;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port or a range of ports")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
                Ok(Ports(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Ports, E> {
                Ok(Ports(number.to_string()))
            }
        }
        deserializer.deserialize_any(PortsVisitor)
    }
}

impl<'de> Deserialize<'de> for NumberOrWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrWordVisitor;
        impl Visitor<'_> for NumberOrWordVisitor {
            type Value = NumberOrWord;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a word")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<NumberOrWord, E> {
                Ok(NumberOrWord(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<NumberOrWord, E> {
                Ok(NumberOrWord(number.to_string()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<NumberOrWord, E> {
                Ok(NumberOrWord(number.to_string()))
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<NumberOrWord, E> {
                Ok(NumberOrWord(number.to_string()))
            }
            fn visit_u128<E: Error>(self, number: u128) -> Result<NumberOrWord, E> {
                Ok(NumberOrWord(number.to_string()))
            }
        }
        deserializer.deserialize_any(NumberOrWordVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }
            // Every whole number in any range of the file is exact in an f64.
            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
            fn visit_u128<E: Error>(self, number: u128) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
        }
        deserializer.deserialize_f64(NumberVisitor)
    }
}

impl<'de> Deserialize<'de> for Boolean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BooleanVisitor;
        impl Visitor<'_> for BooleanVisitor {
            type Value = Boolean;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Boolean, E> {
                Ok(Boolean(on))
            }
        }
        deserializer.deserialize_bool(BooleanVisitor)
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor;
        impl Visitor<'_> for SwitchVisitor {
            type Value = Switch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Switch, E> {
                match number {
                    0 => Ok(Switch(false)),
                    1 => Ok(Switch(true)),
                    other => Err(E::invalid_type(serde::de::Unexpected::Signed(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(SwitchVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::with_capacity(elements.size_hint().unwrap_or(0).min(4096));
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}
