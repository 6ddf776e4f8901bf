"""What a sweep found: every cell evaluated on one loaded base, averaged over its seeds, in one table and one plot."""
