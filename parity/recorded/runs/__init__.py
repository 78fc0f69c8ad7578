"""What is said of whole recorded runs: their stages and parameters, two of them, their ranks, their room in float16."""
