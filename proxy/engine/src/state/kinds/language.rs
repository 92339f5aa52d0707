//! How the values of entities are declared: with the default of each key, once.
//!
//! A canonical value has the keys that differ from their default, in alphabetical order, and no other:
//! so a release that adds a key changes the digest of no state. [`language!`] and [`defaulted!`] make
//! of one declaration the struct, what reads it (an absent key is its default, an unknown one an
//! error) and what writes it, so that the three cannot differ. A test holds every default against the
//! reconciler's (`tests/schemas/test_agreement.py`).

/// Declares a struct of the language: `key: Type = default`, or `key: Type` where there is none.
macro_rules! language {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* pub $key:ident: $type:ty $(= $default:expr)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(
                    if $crate::state::kinds::language::language!(@differs self.$key, $type $(= $default)?) {
                        map.serialize_entry(stringify!($key), &self.$key)?;
                    }
                )*
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(serde::Deserialize)]
                #[serde(field_identifier)]
                #[expect(non_camel_case_types, reason = "they are the keys of the language")]
                enum Key {
                    $($key,)*
                }

                struct Keys;

                impl<'de> serde::de::Visitor<'de> for Keys {
                    type Value = $name;

                    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        out.write_str("a map of keys")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$name, A::Error> {
                        $(let mut $key: Option<$type> = None;)*
                        while let Some(key) = map.next_key::<Key>()? {
                            match key {
                                $(Key::$key => {
                                    if $key.replace(map.next_value()?).is_some() {
                                        return Err(serde::de::Error::duplicate_field(stringify!($key)));
                                    }
                                })*
                            }
                        }
                        Ok($name {
                            $($key: $crate::state::kinds::language::language!(@or_default $key $(= $default)?),)*
                        })
                    }
                }

                deserializer.deserialize_map(Keys)
            }
        }
    };
    (@differs $value:expr, $type:ty) => {
        true
    };
    (@differs $value:expr, $type:ty = $default:expr) => {{
        let default: $type = $default;
        $value != default
    }};
    (@or_default $key:ident) => {
        $key.ok_or_else(|| serde::de::Error::missing_field(stringify!($key)))?
    };
    (@or_default $key:ident = $default:expr) => {
        $key.unwrap_or_else(|| $default)
    };
}

/// Declares a struct of the language every key of which has a default, and so the struct itself.
macro_rules! defaulted {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$doc:meta])* pub $key:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $crate::state::kinds::language::language! {
            $(#[$meta])*
            pub struct $name {
                $($(#[$doc])* pub $key: $type = $default,)*
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                }
            }
        }
    };
}

pub(in crate::state) use {defaulted, language};
