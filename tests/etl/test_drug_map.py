"""A user's map of drug names: read whole, or refused in one line."""

from __future__ import annotations

import pytest

from etl.drug_map import Meaning, read_drug_map
from etl.errors import ConfigError


def test_a_map_by_gsn_or_ndc_is_padded_and_gives_its_names_to_the_caller(tmp_path):
    (tmp_path / "gsn.csv").write_text("name,gsn,atc\nFoo,15,C01AA05\n", encoding="utf-8")
    (tmp_path / "ndc.csv").write_text("\ufeffndc,name\n24987026010,Foo\n904224461,Bar\n", encoding="utf-8")
    gsn, ndc = read_drug_map(tmp_path / "gsn.csv"), read_drug_map(tmp_path / "ndc.csv")
    assert (gsn.key, gsn.names) == ("gsn", {"000015": "foo"})
    assert (ndc.key, ndc.names) == ("ndc", {"24987026010": "foo", "00904224461": "bar"})
    assert gsn.meanings == {"foo": Meaning((), ("C01AA05",))}
    assert ndc.meanings == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has columns none"),
        ("drug,gsn,name\n", "wanted one of drug, gsn, ndc"),
        ("drug\n", "has columns drug"),
        ("drug,name,dose\n", "has columns drug, name, dose"),
        ("drug,name,name\n", "has columns drug, name, name"),
        ("drug,name\n", "no rows"),
        ("drug,name\na,\n,b\n", "line 2 has no name; line 3 has no drug"),
        ("drug,name\na,b\nA ,c\n", "line 3 gives its drug another name"),
        ("drug,name,atc\na,b,A01\nc,d,a10ba2\n", "line 2 has an atc that is not of 5 or 7 characters"),
        ("drug,name,atc\na,b,A10BA02\nc,b,A10BA03\n", "line 3 gives its name another meaning"),
        ("gsn,name\n1234567,b\nx,c\n", "line 2 has a gsn that is not up to 6 digits; line 3 has a gsn"),
        ("ndc,name\n123456789012,b\n", "line 2 has a ndc that is not up to 11 digits"),
        ("drug,name\na,b,c\n", "line 2 has 3 fields, wanted 2"),
        ("drug,name\n" + "a,\n" * 8, "; and 3 more"),
        ('drug,name\n"a,b\n', "not a CSV"),
    ],
)
def test_a_bad_map_is_told_in_one_line(tmp_path, text, told):
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_drug_map(tmp_path / "map.csv")
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert "map.csv" in str(error.value)


def test_a_map_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot read --drug-map"):
        read_drug_map(tmp_path / "none.csv")
    (tmp_path / "latin").write_bytes(b"drug,name\n\xe9,b\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_drug_map(tmp_path / "latin")
