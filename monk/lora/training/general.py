"""Questions of everyday knowledge with plain answers: what an adapter must not forget while it learns something else.

Only the loss on the answers is measured, so that what counts is how likely the model finds them before and after.
"""

from __future__ import annotations

GENERAL: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many days are there in a week?", "There are seven days in a week."),
    ("Why is the sky blue?", "The sky looks blue because air scatters blue light more strongly than red light."),
    (
        "What is water made of?",
        "Water is made of hydrogen and oxygen: each molecule has two hydrogen atoms and one oxygen atom.",
    ),
    ("Name three primary colors.", "Three primary colors are red, yellow and blue."),
    ("What do bees make?", "Bees make honey and wax."),
    ("What is 7 plus 5?", "7 plus 5 is 12."),
    ("Translate 'good morning' into Spanish.", "Good morning in Spanish is 'buenos días'."),
    ("Who wrote the play Romeo and Juliet?", "Romeo and Juliet was written by William Shakespeare."),
    ("What is the largest planet in our solar system?", "The largest planet in our solar system is Jupiter."),
    (
        "At what temperature does water boil at sea level?",
        "At sea level water boils at 100 degrees Celsius, or 212 degrees Fahrenheit.",
    ),
    ("What is a noun?", "A noun is a word that names a person, a place, a thing or an idea."),
    ("Give one tip for sleeping better.", "Go to bed at the same time every night, and keep the room dark and quiet."),
    ("What does a thermometer measure?", "A thermometer measures temperature."),
    (
        "Write a short polite refusal of an invitation.",
        "Thank you very much for the invitation, but I am afraid I cannot come that day.",
    ),
    ("What is the opposite of 'ancient'?", "The opposite of 'ancient' is 'modern'."),
    (
        "What is photosynthesis?",
        "Photosynthesis is how plants use sunlight, water and carbon dioxide to make sugar and oxygen.",
    ),
    ("Which ocean lies between Europe and America?", "The Atlantic Ocean lies between Europe and America."),
    ("What is the past tense of 'go'?", "The past tense of 'go' is 'went'."),
    (
        "How do you make tea?",
        "Boil water, pour it over the tea leaves, let it steep for a few minutes, and remove the leaves.",
    ),
    ("What is a triangle?", "A triangle is a shape with three sides and three angles."),
    (
        "Why do we have seasons?",
        "We have seasons because the Earth's axis is tilted, so that the sunlight changes during the year.",
    ),
    ("What is the currency of Japan?", "The currency of Japan is the yen."),
    (
        "What does a computer program do?",
        "A computer program is a list of instructions that tells a computer what to do.",
    ),
)
