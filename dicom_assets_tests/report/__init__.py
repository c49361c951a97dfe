"""Tests of `report`: what is withheld, and the page of a made-up hospital."""
