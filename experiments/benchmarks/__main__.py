"""Entry of `python -m experiments.benchmarks`."""

from experiments.benchmarks import main
from experiments.benchmarks.options import Options
from experiments.common.launch import launch

if __name__ == "__main__":
    launch(main, Options)
