"""Stands in for setuptools where pip downloads a source package: builds nothing."""
