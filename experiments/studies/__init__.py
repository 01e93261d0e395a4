"""One module per study, each with `measure(folder, full) -> Result`."""
