-- Every stay with the patient's age at admission.
--
-- Grain:  one row per stay whose patient is listed
-- Key:    hadm_id
-- Inputs: raw.admissions, raw.patients
-- Known:  at admission, but for dischtime
-- Source: MIMIC-IV v3.1, hosp.admissions and hosp.patients
--
-- Dates are shifted per patient, so age is counted from the anchor: a patient of anchor_age 60 in
-- anchor_year 2150 who is admitted in 2153 is 63. anchor_age 91 stands for "over 89". Race and admission
-- type vary between the stays of one patient; the value of the stay is taken.

SELECT
    admissions.subject_id,
    admissions.hadm_id,
    admissions.admittime,
    admissions.dischtime,
    CAST(patients.anchor_age + year(admissions.admittime) - patients.anchor_year AS INTEGER) AS age,
    CASE WHEN patients.gender IN ('F', 'M') THEN patients.gender END AS sex,
    admissions.race,
    admissions.admission_type
FROM raw.admissions AS admissions
INNER JOIN raw.patients AS patients USING (subject_id)
