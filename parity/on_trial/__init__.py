"""The judge on trial: does it see the planted bugs, name their place, and stay silent on what is right?"""
