"""What a failure means: where it starts, on how little it shows, and a script that shows it by itself."""
