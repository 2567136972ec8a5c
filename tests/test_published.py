"""Table 2 as data."""

from stseg.published import DATA_SETS, UNSURE, caption, published, table

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
    text = table("davis16", 0.726, 10, 650)
    assert "| **this run** | **72.6** | - | - |" in text
    assert "10 sequences, 650 frames of DAVIS2016" in text
    assert "means over 20 sequences" in text
    assert "do not compare" in text
    assert "do not compare" not in caption("davis16", 20, 1376)
    assert "nothing is published" in caption("folder", 3, 90)
