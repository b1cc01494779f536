"""Attacks over many doors: are they recognised, whom do they resemble, and how soon does every door know?"""
