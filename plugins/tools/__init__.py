"""What the command line does with modules before a node gets them: make, look at, check, try, measure."""
