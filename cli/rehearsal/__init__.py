"""Rehearsals: any stack of a project against simulated clouds, in a place from which no real account can be reached."""
