//! What tags and data can hold.

use std::borrow::Cow;

/// A value as the recording side takes it: borrowed, nothing converted yet.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// Every signed width up to 64 bits.
    I64(i64),
    /// Every unsigned width up to 64 bits.
    U64(u64),
    /// Both float widths.
    F64(f64),
    /// 128 bits, signed.
    I128(i128),
    /// 128 bits, unsigned.
    U128(u128),
    /// Text.
    Text(&'a str),
    /// A list of one of these.
    List(List<'a>),
}

mod sealed {
    pub trait ToValue {
        /// The value, borrowed.
        fn to_value(&self) -> super::Value<'_>;
    }
}

pub(crate) use sealed::ToValue;

/// What can be given to `set_tag` and `set_data`: text (`&str`, `String`, `Cow<str>`), every
/// integer and float width, `bool`, lists of these (slices, arrays, `Vec`), and references to any
/// of them.
///
/// Text longer than 1024 bytes is cut, as is what a list holds beyond 1024 bytes; both are counted.
/// A NaN or an infinity arrives as text. Never allocates. The trait is sealed.
///
/// ```
/// let mut span = hotspan::start_child("db", "load");
/// span.set_data("rows", 3_u16).set_data("ratio", 0.5).set_data("shards", [1, 2, 3]);
/// span.set_tag("region", String::from("eu"));
/// ```
pub trait IntoValue: ToValue {}

impl<T: ToValue + ?Sized> IntoValue for T {}

impl<T: ToValue + ?Sized> ToValue for &T {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

macro_rules! scalars {
    ($($ty:ty => $variant:ident as $wide:ty, $slice:ident;)*) => {
        /// A list, by the type of its items.
        #[derive(Clone, Copy, Debug)]
        pub enum List<'a> {
            $(#[doc = concat!("Of `", stringify!($ty), "`.")] $slice(&'a [$ty]),)*
            /// Of `&str`.
            Strs(&'a [&'a str]),
            /// Of `String`.
            Strings(&'a [String]),
        }

        impl<'a> List<'a> {
            /// Calls `visit` with each item until it returns false.
            pub(crate) fn each(self, mut visit: impl FnMut(Value<'a>) -> bool) {
                match self {
                    $(Self::$slice(items) => {
                        let _ = items.iter().all(|item| visit(Value::$variant(*item as $wide)));
                    })*
                    Self::Strs(items) => {
                        let _ = items.iter().all(|item| visit(Value::Text(item)));
                    }
                    Self::Strings(items) => {
                        let _ = items.iter().all(|item| visit(Value::Text(item)));
                    }
                }
            }

            /// An item of the list's type, for telling which that is.
            pub(crate) const fn sample(self) -> Value<'static> {
                match self {
                    $(Self::$slice(_) => Value::$variant(<$wide>::MIN_VALUE),)*
                    Self::Strs(_) | Self::Strings(_) => Value::Text(""),
                }
            }
        }

        $(
            impl ToValue for $ty {
                #[inline]
                fn to_value(&self) -> Value<'_> {
                    Value::$variant(*self as $wide)
                }
            }

            impl ToValue for [$ty] {
                #[inline]
                fn to_value(&self) -> Value<'_> {
                    Value::List(List::$slice(self))
                }
            }
        )*
    };
}

/// A value of each wide type that can be named in a constant.
trait Zero {
    const MIN_VALUE: Self;
}

impl Zero for bool {
    const MIN_VALUE: Self = false;
}

macro_rules! zero {
    ($($ty:ty = $zero:literal)*) => {
        $(impl Zero for $ty { const MIN_VALUE: Self = $zero; })*
    };
}

zero! { i64 = 0 u64 = 0 f64 = 0.0 i128 = 0 u128 = 0 }

scalars! {
    bool => Bool as bool, Bools;
    i8 => I64 as i64, I8s;
    i16 => I64 as i64, I16s;
    i32 => I64 as i64, I32s;
    i64 => I64 as i64, I64s;
    u8 => U64 as u64, U8s;
    u16 => U64 as u64, U16s;
    u32 => U64 as u64, U32s;
    u64 => U64 as u64, U64s;
    f32 => F64 as f64, F32s;
    f64 => F64 as f64, F64s;
    usize => U64 as u64, Usizes;
    isize => I64 as i64, Isizes;
    i128 => I128 as i128, I128s;
    u128 => U128 as u128, U128s;
}

impl ToValue for str {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for String {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for Cow<'_, str> {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for [&str] {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        Value::List(List::Strs(self))
    }
}

impl ToValue for [String] {
    #[inline]
    fn to_value(&self) -> Value<'_> {
        Value::List(List::Strings(self))
    }
}

impl<T> ToValue for Vec<T>
where
    [T]: ToValue,
{
    #[inline]
    fn to_value(&self) -> Value<'_> {
        self.as_slice().to_value()
    }
}

impl<T, const N: usize> ToValue for [T; N]
where
    [T]: ToValue,
{
    #[inline]
    fn to_value(&self) -> Value<'_> {
        self.as_slice().to_value()
    }
}
