"""Every edit that plants a fault of the machinery family finds its place."""

import ast

import pytest

from zoo.families.machinery import DIAGNOSES, FAULTS
from zoo.trainers import machinery
from zoo.trainers.machinery.edits import EDITS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_edits_find_their_place_and_leave_a_program(fault):
    source = (machinery.FOLDER / f"{fault.base}.py").read_text(encoding="utf-8")
    edited = source
    for old, new in EDITS[fault.name]:
        assert old in edited
        edited = edited.replace(old, new)
    assert ast.dump(ast.parse(edited)) != ast.dump(ast.parse(source))


def test_every_edit_is_a_fault_of_the_table():
    assert EDITS.keys() == {fault.name for fault in FAULTS} == DIAGNOSES.keys()
