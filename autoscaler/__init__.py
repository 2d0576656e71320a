"""Decides how many replicas each revision should have: a pure decision core and the loop around it."""
