"""`python -m eval`: its overview by topic, and mistakes in one line."""

from __future__ import annotations

import pytest

from eval.__main__ import COMMANDS, TOPICS, main


def test_the_overview_has_every_command_under_its_topic(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    places = [lines.index(f"{topic}:") for topic in TOPICS]
    assert places == sorted(places)
    for place, commands in zip(places, TOPICS.values(), strict=True):
        listed = [line.split()[0] for line in lines[place + 1 : place + 1 + len(commands)]]
        assert listed == list(commands)
    assert len(COMMANDS) == sum(len(commands) for commands in TOPICS.values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scroe"], "ERROR: no command 'scroe'; did you mean score?; see python -m eval --help"),
        (["score", "--prde", "x"], "ERROR: no option --prde; did you mean --pred?; see python -m eval score --help"),
        (
            ["efficiency", "--docker-args", "--gpus all"],
            "ERROR: the following arguments are required: -i/--input, -o/--output; see "
            "python -m eval efficiency --help",
        ),
        ([], "ERROR: the following arguments are required: COMMAND; see python -m eval --help"),
    ],
)
def test_mistakes_are_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == says + "\n"
