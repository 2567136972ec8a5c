"""Table 2 as data."""

from stseg.published import DATA_SETS, MEASURED_ON, UNSURE, caption, published, table
from stseg.splits import DAVIS16

SYSTEMS = (
    *("EM", "MoSeg", "FTS", "TIS_0", "OCLR", "GWM", "MOD", "TIS_s", "CIS", "DyStaB"),
    *("ARP", "MATNet", "COSNet"),
)


def test_every_system_of_the_table_is_there_with_its_source() -> None:
    names = [each.name for each in published()]
    for system in SYSTEMS:
        assert any(name.startswith(system) for name in names), system
    assert sum(name.startswith("CIS") for name in names) == 2
    assert sum(name.startswith("DyStaB") for name in names) == 2
    for each in published():
        assert each.source
        assert set(each.j) == set(DATA_SETS)
        assert all(value is None or 20 < value < 100 for value in each.j.values())
        assert set(each.confirmed) <= {name for name, value in each.j.items() if value}


def test_what_nobody_looked_up_is_marked() -> None:
    by_name = {each.name: each for each in published()}
    assert by_name["EM"].told("davis16") == "69.3"
    assert by_name["FTS"].told("davis16").endswith(UNSURE)
    assert by_name["TIS_0"].told("fbms59") == "-"


def test_the_table_says_what_was_measured_and_on_what() -> None:
    val = DAVIS16["val"]
    text = table("davis16", 0.726, val[:10], 650)
    assert "| **this run** | **72.6** | - | - |" in text
    assert "10 sequences, 650 frames of DAVIS2016" in text
    assert "means over 20 sequences" in text
    assert "do not compare" in text
    assert "do not compare" not in caption("davis16", val, 1376)
    assert "as the published numbers" in caption("davis16", val[::-1], 1376)
    assert "nothing is published" in caption("folder", val[:3], 90)


def test_as_many_other_sequences_do_not_compare() -> None:
    train = caption("davis16", DAVIS16["train"], 2079)  # more than those of val
    assert "30 sequences, 2079 frames of DAVIS2016" in train
    assert "not to be compared" in train
    assert "as the published numbers" not in train
    swapped = [*DAVIS16["val"][1:], "bear"]
    assert "(bear is none of them): not to be compared" in caption("davis16", swapped, 1376)
    assert "not to be compared" in caption("davis16", [*DAVIS16["val"], "bear"], 1400)


def test_the_lists_of_the_published_numbers() -> None:
    assert {name: len(set(each)) for name, each in MEASURED_ON.items()} == {
        "davis16": 20,
        "segtrackv2": 14,
        "fbms59": 30,
    }


def test_a_folder_of_ones_own_has_its_score_in_the_table() -> None:
    head, _, ours, *others = table("folder", 0.726, ["pause"], 48).splitlines()
    assert head == "| J in percent | your data | DAVIS2016 | SegTrackV2 | FBMS59 | source |"
    assert ours == "| **this run** | **72.6** | - | - | - | measured here |"
    rows = [line for line in others if line.startswith("|")]
    assert {line.count("|") for line in rows} == {head.count("|")}


def test_refined_masks_are_named_beside_the_published_numbers() -> None:
    told = caption("davis16", ["camel"], 90, refined=True)
    assert told.startswith(caption("davis16", ["camel"], 90))
    assert told.endswith("Masks were refined by the flow, which the paper does not do.")
    assert told in table("davis16", 0.7, ["camel"], 90, refined=True)
