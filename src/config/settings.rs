//! Settings that are read from a section by the declaration of its keys.

use super::diagnostics::Diagnostics;
use super::fields::Fields;
use super::keys::Reader;
use super::section::{Kind, Section};
use super::yaml::YamlNode;

/// Settings read from a section; implemented by `settings!`.
pub(super) trait Settings: Sized {
    const SECTION: &'static Section;

    /// Reads every key. Returns `None` if one of them has an error, which is then reported.
    fn read(fields: &Fields<'_>) -> Option<Self>;

    fn from_node(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Self> {
        Self::read(&Fields::open(node, Self::SECTION, diagnostics)?)
    }
}

/// Reads a mapping with the keys of `T`.
pub(super) const fn mapping<T: Settings>() -> Reader<T> {
    Reader::new(Kind::Mapping(T::SECTION), T::from_node)
}

/// Declares the keys of a section and the type of its settings. See the head of `keys.rs`.
///
/// With `partial`, each field is an `Option` that is `None` if its value has an error, so that the caller can check the
/// other values too.
macro_rules! settings {
    (@section $title:literal, $(($doc:expr, $name:tt, $type:ty, $reader:expr, $mode:tt))+) => {
        &$crate::config::section::Section {
            name: $title,
            groups: &[&[$($crate::config::keys::key!($doc, $name, $type, $reader, $mode)),+]],
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident = $title:literal { $(
            $(#[doc = $doc:literal])+
            $field:ident $(as $name:literal)? : $type:ty = $reader:expr, $mode:ident $($default:literal)?;
        )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $Name { $(
            $(#[doc = $doc])+
            $vis $field: $crate::config::keys::key!(@type $mode, $type),
        )+ }

        impl $crate::config::settings::Settings for $Name {
            const SECTION: &'static $crate::config::section::Section = $crate::config::settings::settings!(
                @section $title, $((concat!($($doc),+), ($field $($name)?), $type, $reader, ($mode $($default)?)))+
            );

            fn read(fields: &$crate::config::fields::Fields<'_>) -> Option<Self> {
                // Every key is read before the first error returns.
                $(let $field = fields.$mode($crate::config::keys::key!(@name $field $($name)?), &$reader);)+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis partial struct $Name:ident = $title:literal { $(
            $(#[doc = $doc:literal])+
            $field:ident $(as $name:literal)? : $type:ty = $reader:expr, $mode:ident $($default:literal)?;
        )+ }
    ) => {
        $(#[$meta])*
        $vis struct $Name { $(
            $(#[doc = $doc])+
            $vis $field: Option<$crate::config::keys::key!(@type $mode, $type)>,
        )+ }

        impl $crate::config::settings::Settings for $Name {
            const SECTION: &'static $crate::config::section::Section = $crate::config::settings::settings!(
                @section $title, $((concat!($($doc),+), ($field $($name)?), $type, $reader, ($mode $($default)?)))+
            );

            fn read(fields: &$crate::config::fields::Fields<'_>) -> Option<Self> {
                Some(Self { $(
                    $field: fields.$mode($crate::config::keys::key!(@name $field $($name)?), &$reader),
                )+ })
            }
        }
    };
}

pub(crate) use settings;
