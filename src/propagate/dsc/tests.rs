//! What is kept of a stranger's context, and how it is read.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config;

use super::*;

fn taken(headers: &[&[u8]]) -> String {
    let mut intake = Intake::default();
    headers.iter().for_each(|header| intake.read(header));
    let listed: Vec<_> = raw_members(&intake.bytes).map(|(k, v)| (k.to_owned(), v)).collect();
    for (key, value) in listed {
        assert_eq!(intake.find(key.as_bytes()), Some(value), "the entries do not fit to the list");
    }
    assert!(is_legal(&intake.bytes));
    String::from_utf8(intake.finish().to_vec()).unwrap()
}

#[test]
fn ours_are_kept_as_they_came_and_others_not() {
    for (header, expected) in [
        ("", ""),
        ("sentry-trace_id=1", "sentry-trace_id=1"),
        ("a=1, sentry-b=2 ,\tsentry-c = 3;p=q , d=4", "sentry-b=2,sentry-c=3"),
        ("sentry-a=x%20y%2Fz,sentry-b=x/y+z", "sentry-a=x%20y%2Fz,sentry-b=x/y+z"),
        ("sentry-a=%zz%,sentry-b=%ff%fe", "sentry-a=%zz%,sentry-b=%ff%fe"),
        ("sentry-new-kind=1,sentry-x.y=2", "sentry-new-kind=1,sentry-x.y=2"),
        ("sentry-a=b=c", "sentry-a=b=c"),
        // No key, no value, no member, a key that cannot be one.
        ("sentry-=1,sentry-a=,sentry-a,sentry-b=;x,sentry-a b=1,=2", ""),
        ("Sentry-a=1,SENTRY-a=1,xsentry-a=1,sentry_a=1", ""),
        ("sentry-a=1,sentry-b=2,sentry-a=3", "sentry-a=1,sentry-b=2"),
        ("sentry-a=,sentry-a=3", "sentry-a=3"),
        // What should have been encoded is.
        (
            "sentry-a=my app \"1\\2\",sentry-b=\u{e9}",
            "sentry-a=my%20app%20%221%5C2%22,sentry-b=%C3%A9",
        ),
        ("sentry-a=x\r\ny: z\0\u{7f}", "sentry-a=x%0D%0Ay:%20z%00%7F"),
        ("sentry-\r\na=1", ""),
    ] {
        assert_eq!(taken(&[header.as_bytes()]), expected, "{header:?}");
    }
    assert_eq!(taken(&[b"sentry-a=\xff\xfe"]), "sentry-a=%FF%FE");
}

/// Member by member, each looked at closely, whatever it is.
fn taken_slowly(headers: &[String]) -> String {
    let mut intake = Intake::default();
    for member in headers.iter().flat_map(|header| baggage::members(header.as_bytes())) {
        intake.single(member);
    }
    String::from_utf8(intake.finish().to_vec()).unwrap()
}

/// A header of anything that members are made of, with whole ones among it, some too long and some
/// too many.
fn header() -> impl Strategy<Value = String> {
    let part = select(vec![
        "sentry-",
        "sentry-a=1",
        "sentry-ab=2",
        "sentry-trace_id=4c79",
        "sentry-org_id=1",
        "a",
        "b",
        "trace_id",
        "=",
        "=",
        ",",
        ",",
        ",",
        " ",
        "\t",
        ";",
        "%",
        "%20",
        "\"",
        "\\",
        "\r",
        "é",
        "/",
    ]);
    let whole = (0..100_u8, prop_oneof![4 => 1..9_usize, 1 => 900..1030_usize])
        .prop_map(|(key, len)| format!(",sentry-k{key}={},", "x".repeat(len)));
    let parts = prop_oneof![2 => part.prop_map(str::to_owned), 1 => whole];
    vec(parts, 0..150).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 500, ..Config::default() })]
    /// Looking at most members only once takes what looking closely at each takes.
    #[test]
    fn one_look_finds_what_a_close_look_finds(mut headers in vec(header(), 1..4)) {
        headers.retain(|header| header.len() <= READ_MAX);
        let all: Vec<_> = headers.iter().map(String::as_bytes).collect();
        prop_assert_eq!(taken(&all), taken_slowly(&headers));
    }
}

#[test]
fn usual_keys_have_bits_of_their_own() {
    let keys = "trace_id public_key sample_rate sampled sample_rand release environment \
                transaction org_id replay_id user_segment user_id";
    let bits = keys.split_ascii_whitespace().map(|key| bit_of(key.as_bytes()));
    assert_eq!(bits.fold(0, |all, bit| all | bit).count_ones(), 12);
}

#[test]
fn several_headers_are_one_list() {
    let headers: [&[u8]; 4] = [b"", b"a=1", b"sentry-a=1,sentry-b=2", b"sentry-b=3,sentry-c=4"];
    assert_eq!(taken(&headers), "sentry-a=1,sentry-b=2,sentry-c=4");
}

#[test]
fn a_header_beyond_reason_is_not_read() {
    let header = |len: usize| format!("sentry-a=1{}", ",".repeat(len - 10));
    assert_eq!(taken(&[header(READ_MAX).as_bytes()]), "sentry-a=1");
    assert_eq!(taken(&[header(READ_MAX + 1).as_bytes()]), "");
}

#[test]
fn the_essential_ones_are_kept_and_the_others_go_from_the_end() {
    let x = |key: &str, len: usize| format!("sentry-{key}={}", "x".repeat(len - key.len() - 8));
    let full = [x("a", 1000), x("b", 1000), x("c", 1000), x("d", 1000), x("e", 92)].join(",");
    assert_eq!(full.len(), BYTES_MAX);
    assert_eq!(taken(&[full.as_bytes()]), full);

    let more = format!("{full},sentry-f=1");
    assert_eq!(taken(&[more.as_bytes()]), full);

    let cut = [x("a", 1000), x("b", 1000), x("c", 1000), x("d", 1000), x("e", 93)].join(",");
    let four = cut.rsplit_once(',').unwrap().0;
    // One that does not fit shuts out what is behind it, however small.
    assert_eq!(taken(&[format!("{cut},sentry-f=1").as_bytes()]), four);

    let essential = "sentry-trace_id=1,sentry-public_key=2,sentry-sample_rate=3,sentry-sampled=4,\
                     sentry-sample_rand=5,sentry-org_id=6";
    let behind = taken(&[format!("{full},{essential},sentry-f=1").as_bytes()]);
    let kept = [x("a", 1000), x("b", 1000), x("c", 1000), essential.into()].join(",");
    assert_eq!(behind, kept);
    // Also when the ones to go stand first.
    let first = format!("{},sentry-trace_id={}", x("a", 1000), "1".repeat(900));
    let rest = [x("public_key", 1000), x("sampled", 1000), x("org_id", 1000)].join(",");
    let expected = format!("sentry-trace_id={},{rest}", "1".repeat(900));
    assert_eq!(taken(&[format!("{first},{rest}").as_bytes()]), expected);
}

#[test]
fn no_more_members_than_a_header_takes() {
    let others: Vec<_> = (0..80).map(|n| format!("sentry-k{n}={n}")).collect();
    assert_eq!(taken(&[others.join(",").as_bytes()]), others[..64].join(","));
    let with = format!("{},sentry-trace_id=1", others.join(","));
    assert_eq!(taken(&[with.as_bytes()]), format!("{},sentry-trace_id=1", others[..63].join(",")));
    // Also those that could be taken at one look: their keys have bits of their own.
    let full = others[..64].join(",");
    assert_eq!(taken(&[format!("{full},sentry-z=1").as_bytes()]), full);
    let with = format!("{full},sentry-trace_id=1");
    assert_eq!(taken(&[with.as_bytes()]), format!("{},sentry-trace_id=1", others[..63].join(",")));
}

#[test]
fn a_member_that_no_value_of_the_ring_holds_is_left_out() {
    let member = |len: usize| format!("sentry-a={}", "x".repeat(len - 9));
    assert_eq!(taken(&[member(MEMBER_MAX).as_bytes()]), member(MEMBER_MAX));
    assert_eq!(taken(&[member(MEMBER_MAX + 1).as_bytes()]), "");
    // Counted as it will be.
    let encoded = format!("sentry-a={}", " x".repeat(300));
    assert_eq!(taken(&[encoded.as_bytes()]), "");
}

#[test]
fn values_are_decoded_lossily_and_borrowed_where_they_can_be() {
    let mut buffer = Vec::new();
    for (value, expected) in [
        ("", ""),
        ("plain-1.0", "plain-1.0"),
        ("a%20b%2Cc", "a b,c"),
        ("%C3%A9%e6%bc%a2", "é漢"),
        ("x%C3%28%ffy", "x\u{fffd}(\u{fffd}y"),
        ("%c3", "\u{fffd}"),
        ("%zz%4", "%zz%4"),
        ("%00%0d", "\0\r"),
    ] {
        let list = format!("sentry-k={value},sentry-l=1");
        let read: Vec<_> = members(list.as_bytes()).collect();
        assert_eq!(read, [("k", Cow::Borrowed(expected)), ("l", Cow::Borrowed("1"))], "{value}");
        let is_plain = !value.contains('%');
        assert!(!is_plain || matches!(read[0].1, Cow::Borrowed(_)));
        assert_eq!(decode_into(value.as_bytes(), &mut buffer), expected, "{value}");
    }
    let foreign = b"a=1,sentry-=2,sentry-b,sentry-c=3";
    assert_eq!(raw_members(foreign).collect::<Vec<_>>(), [("c", &b"3"[..])]);
}

#[test]
fn pieces_are_whole_members_and_join_to_the_list() {
    let list = b"aa,bbb,c,dddd,e";
    let cut = |max| {
        let pieces: Vec<_> = pieces(list, max).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= max));
        String::from_utf8(pieces.join(&b'|')).unwrap()
    };
    assert_eq!(cut(15), "aa,bbb,c,dddd,e");
    assert_eq!(cut(14), "aa,bbb,c,dddd|e");
    assert_eq!(cut(6), "aa,bbb|c,dddd|e");
    assert_eq!(cut(5), "aa|bbb,c|dddd|e");
    assert_eq!(cut(4), "aa|bbb|c|dddd|e");
    // What is longer is left out.
    assert_eq!(cut(3), "aa|bbb|c|e");
    assert_eq!(cut(1), "c|e");
    assert_eq!(pieces(b"", 4).count(), 0);
}

#[test]
fn own_values_are_encoded_but_for_what_needs_it_nowhere() {
    let mut out = Bytes::new();
    push(&mut out, "sentry-a=", b"AZaz09-._~");
    push(&mut out, "sentry-b=", "my app@1.0+2/3,=;\"%\\\r\n\0\u{7f}é".as_bytes());
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "sentry-a=AZaz09-._~,sentry-b=my%20app%401.0%2B2%2F3%2C%3D%3B%22%25%5C%0D%0A%00%7F%C3%A9"
    );
}
