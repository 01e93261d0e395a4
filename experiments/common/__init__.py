"""What every launcher shares: flags, exit codes, files, pages."""
