"""The run-time type checker of the suite."""

from beartype import BeartypeConf, beartype

# An int is welcome wherever a float is, as in every signature of Python (PEP 484).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
