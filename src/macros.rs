//! Macros that make the names of a place `static`.

/// [`start_transaction`](crate::start_transaction) with literal names, looked up once for the
/// place. The op must be a literal; a name that is not is looked up at each use, as without the
/// macro.
///
/// ```
/// let mut transaction = hotspan::transaction!("queue.process", "orders");
/// # let kind = "orders";
/// let inner = hotspan::transaction!("queue.process", kind);
/// ```
#[macro_export]
macro_rules! transaction {
    ($op:literal, $name:literal $(,)?) => {{
        static OP: $crate::Name = $crate::Name::new($op);
        static NAME: $crate::Name = $crate::Name::new($name);
        $crate::start_transaction(&OP, &NAME)
    }};
    ($op:literal, $name:expr $(,)?) => {{
        static OP: $crate::Name = $crate::Name::new($op);
        $crate::start_transaction(&OP, $name)
    }};
}

/// [`start_child`](crate::start_child) with literal names, looked up once for the place. The op
/// must be a literal; a description that is not is looked up at each use, as without the macro.
///
/// ```
/// let _span = hotspan::span!("db.query", "load");
/// # let table = "orders";
/// let _inner = hotspan::span!("db.query", table);
/// ```
#[macro_export]
macro_rules! span {
    ($op:literal, $description:literal $(,)?) => {{
        static OP: $crate::Name = $crate::Name::new($op);
        static DESCRIPTION: $crate::Name = $crate::Name::new($description);
        $crate::start_child(&OP, &DESCRIPTION)
    }};
    ($op:literal, $description:expr $(,)?) => {{
        static OP: $crate::Name = $crate::Name::new($op);
        $crate::start_child(&OP, $description)
    }};
}
