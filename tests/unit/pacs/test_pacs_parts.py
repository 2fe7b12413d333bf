"""Addresses without secrets, UIDs that follow from what an object is made of, and series that are complete."""

from __future__ import annotations

import re

import pytest

from gfscreen.errors import UsageError
from gfscreen.pacs.address import PASSWORD_VARIABLE, archive_address
from gfscreen.pacs.archive import FoundSeries
from gfscreen.pacs.identity import identity_of, name_of
from gfscreen.pacs.run import Arrivals
from tests.helpers.engines import FakeClock


class TestAddress:
    def test_of_a_cohort_and_of_pacs(self):
        assert archive_address("dicomweb+http://h:8042/dicom-web/").url == "http://h:8042/dicom-web"
        assert archive_address("https://h/d").url == "https://h/d"

    @pytest.mark.parametrize("url", ["h:8042", "ftp://h/x", "http:///x", "file:///etc"])
    def test_no_address(self, url):
        with pytest.raises(UsageError, match="expected http://HOST/PATH"):
            archive_address(url)

    def test_a_password_in_the_url_is_refused_and_not_repeated(self):
        with pytest.raises(UsageError, match="holds a user or password") as error:
            archive_address("http://me:hunter2@h/x")
        assert "hunter2" not in str(error.value)

    def test_passwords(self, monkeypatch, tmp_path):
        monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
        with pytest.raises(UsageError, match=f"no password; set {PASSWORD_VARIABLE}"):
            archive_address("http://h/x", "me")
        monkeypatch.setenv(PASSWORD_VARIABLE, "of the variable")
        address = archive_address("http://h/x", "me")
        assert address.password == "of the variable"
        assert "variable" not in repr(address)
        assert "me'" not in repr(address)
        (tmp_path / "secret").write_text("of the file\nmore\n")
        assert archive_address("http://h/x", "me", tmp_path / "secret").password == "of the file"
        with pytest.raises(UsageError, match="whose"):
            archive_address("http://h/x", None, tmp_path / "secret")
        with pytest.raises(UsageError, match="cannot be read"):
            archive_address("http://h/x", "me", tmp_path / "none")

    def test_certificates_that_are_not_there(self, tmp_path):
        with pytest.raises(UsageError, match="takes certificates in PEM"):
            archive_address("https://h/x", ca=tmp_path / "none.pem")


class TestIdentity:
    facts = {"weights_sha256": "aa", "region": "auto"}  # noqa: RUF012

    def test_the_same_gives_the_same_uid(self):
        uid = identity_of("1.2", ["1", "2"], self.facts).uid("seg")
        assert identity_of("1.2", ["2", "1"], dict(reversed(self.facts.items()))).uid("seg") == uid
        assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
        assert len(uid) <= 64

    def test_each_change_gives_another(self):
        one = identity_of("1.2", ["1", "2"], self.facts)
        others = [
            identity_of("1.3", ["1", "2"], self.facts),
            identity_of("1.2", ["1", "2", "3"], self.facts),
            identity_of("1.2", ["1", "2"], {**self.facts, "weights_sha256": "bb"}),
        ]
        uids = [one.uid("seg"), one.uid("sr"), one.uid("seg series"), *(other.uid("seg") for other in others)]
        assert len(set(uids)) == len(uids)

    def test_a_name_tells_nothing(self):
        assert re.fullmatch("series-[0-9a-f]{16}", name_of("1.2.840.99"))
        assert name_of("1.2") != name_of("1.3")


class TestArrivals:
    def test_a_series_is_taken_when_nothing_was_added_for_long_enough(self):
        clock = FakeClock()
        arrivals = Arrivals(60.0, clock)

        def look(count):
            return [found.instances for found in arrivals.stable(iter([FoundSeries("1", "1.1", count)]))]

        assert look(10) == []
        clock.now_s += 59
        assert look(20) == []  # it grew
        clock.now_s += 59
        assert look(20) == []
        clock.now_s += 1
        assert look(20) == [20]
        assert look(20) == [20]  # as long as it is not settled, as where the archive did not take the results
        arrivals.settle(FoundSeries("1", "1.1", 20))
        clock.now_s += 1000
        assert look(20) == []
        assert look(21) == []  # one more slice: told of again, when it is complete
        clock.now_s += 60
        assert look(21) == [21]

    def test_without_waiting(self):
        assert list(Arrivals(0.0).stable(iter([FoundSeries("1", "1.1", None)]))) == [FoundSeries("1", "1.1", None)]
