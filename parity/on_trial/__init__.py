"""The judge on trial: does it detect the planted bugs, name their place, and accept correct code?"""
