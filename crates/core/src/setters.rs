//! The setters of the option structs, made from a list of their fields.
//!
//! A struct that may get more fields (`non_exhaustive`) cannot be written as a literal outside of this crate. With
//! setters its value is one expression all the same. Each option struct calls `setters!` once, with all of its fields.
//! Nothing is checked here: the call that takes the options does that.

/// `field: type` sets a field. `Some field: type` sets an optional one, `Text field` one with a text.
macro_rules! setters {
    ($options:ident { $($rest:tt)* }) => {
        impl $options {
            setters!(@ $options $($rest)*);
        }
    };
    (@ $options:ident) => {};
    (@ $options:ident Some $field:ident: $type:ty, $($rest:tt)*) => {
        setters!(@one $options $field, value: $type, Some(value));
        setters!(@ $options $($rest)*);
    };
    (@ $options:ident Text $field:ident, $($rest:tt)*) => {
        setters!(@one $options $field, value: impl Into<String>, Some(value.into()));
        setters!(@ $options $($rest)*);
    };
    (@ $options:ident $field:ident: $type:ty, $($rest:tt)*) => {
        setters!(@one $options $field, value: $type, value);
        setters!(@ $options $($rest)*);
    };
    (@one $options:ident $field:ident, $value:ident: $type:ty, $set:expr) => {
        #[doc = concat!("Sets the field [`", stringify!($field), "`](field@", stringify!($options), "::", stringify!($field), ").")]
        #[must_use]
        #[allow(clippy::wrong_self_convention)]
        pub fn $field(mut self, $value: $type) -> Self {
            self.$field = $set;
            self
        }
    };
}
