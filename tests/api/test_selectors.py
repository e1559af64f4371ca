import pytest
from hypothesis import given
from hypothesis import strategies as st

from buoy.api import selectors
from buoy.api.selectors import SelectorError, from_labels, from_object, parse, parse_fields

KEY = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "b"}, True),
        ("a = b , c != d", {"a": "b", "c": "e"}, True),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", {"a": ""}, False),
        ("a in (x, y)", {"a": "y"}, True),
        ("a in (x,y)", {"a": "z"}, False),
        ("a in ()", {"a": ""}, True),
        ("a in (,x)", {"a": ""}, True),
        ("a notin (x,y)", {}, True),
        ("a notin (x,y)", {"a": "x"}, False),
        ("a=", {"a": ""}, True),
        ("a=,b=c", {"a": "", "b": "c"}, True),
        ("a>5", {"a": "6"}, True),
        ("a<5", {"a": "x"}, False),
        ("in in (in,notin)", {"in": "notin"}, True),
        ("example.com/x=1", {"example.com/x": "1"}, True),
    ],
)
def test_label_selector_texts(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("a==(", "unable to parse requirement: found '(', expected: identifier"),
        ("_a=b", f'unable to parse requirement: <nil>: Invalid value: "_a": {KEY}'),
        (
            "a=-b",
            'unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be an empty '
            "string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
            "is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "a>x",
            'unable to parse requirement: values[0]: Invalid value: "x": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_malformed_label_selectors(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as error:
        parse(text)
    assert str(error.value) == message


def test_selector_objects() -> None:
    assert not from_object(None).matches({})
    assert from_object({}).matches({"a": "b"})
    selector = from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert str(selector) == "app=web,!old,tier in (a,b)"
    assert selector.matches({"app": "web", "tier": "a"})
    assert not selector.matches({"app": "web", "tier": "a", "old": ""})
    assert selector.exact("app") == "web"
    assert selector.exact("tier") is None
    with pytest.raises(SelectorError, match="not a valid label selector operator"):
        from_object({"matchExpressions": [{"key": "a", "operator": "Near"}]})


def test_node_expressions() -> None:
    selector = selectors.from_node_expressions([{"key": "cores", "operator": "Gt", "values": ["3"]}])
    assert selector.matches({"cores": "4"})
    assert not selector.matches({"cores": "3"})
    assert not selector.matches({})


def test_field_selectors() -> None:
    fields = {"metadata.name": lambda obj: obj["metadata"]["name"]}
    obj = {"metadata": {"name": "a"}}
    assert parse_fields("metadata.name=a").matches(obj, fields)
    assert parse_fields("metadata.name==a,").matches(obj, fields)
    assert not parse_fields("metadata.name!=a").matches(obj, fields)
    assert parse_fields("").empty
    assert parse_fields("metadata.name=a").exact("metadata.name") == "a"
    assert str(parse_fields("b!=c,a==x")) == "a=x,b!=c"
    with pytest.raises(SelectorError) as error:
        parse_fields("metadata.name")
    assert str(error.value) == "invalid selector: 'metadata.name'; can't understand 'metadata.name'"


keys = st.from_regex(r"[a-z]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda key: key not in ("in", "notin")
)
values = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?)?", fullmatch=True)
label_sets = st.dictionaries(keys, values, max_size=4)


@given(label_sets)
def test_labels_as_selector_match_themselves_and_survive_a_round_trip(labels: dict[str, str]) -> None:
    selector = from_labels(labels)
    assert selector.matches(labels)
    assert parse(str(selector)) == selector


@given(keys, st.sets(values, min_size=1, max_size=3), label_sets)
def test_in_and_notin_are_opposites(key: str, choices: set[str], labels: dict[str, str]) -> None:
    text = ",".join(choices)
    inside = parse(f"{key} in ({text})")
    outside = parse(f"{key} notin ({text})")
    assert inside.matches(labels) is not outside.matches(labels)
    assert parse(str(inside)) == inside


@given(st.text(alphabet="ab,=!()<> intor-", max_size=24))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        selector = parse(text)
    except SelectorError:
        return
    assert selector.matches({}) in (True, False)
