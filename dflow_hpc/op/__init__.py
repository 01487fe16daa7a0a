"""What an OP author writes, and the runner beside the OP: signs, checks, paths and catalogues, slices."""
