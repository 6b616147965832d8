"""One file per vendor that needs code; the file name is the key of `providers.*.type`."""
