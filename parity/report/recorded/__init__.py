"""What was found in recorded runs, as a table, a page, JSON and JUnit XML, all made from the same facts."""
