-- One sample per admission: what goes in, and the drugs that were prescribed.
--
-- Grain:  one row per stay of an adult that reaches its prediction time, with a diagnosis and a drug due
-- Key:    hadm_id
-- Inputs: admissions, diagnosis_lists, drug_lists, earlier_diagnoses, history, labs, measurements, prediction_times, settings, splits
-- Known:  after discharge: the diagnoses are coded then, the drugs are the answer
-- Source: MIMIC-IV v3.1, hosp
--
-- Stays left out are counted in cohort.json, not here. What is not known is NULL: previous_drugs is NULL where
-- no earlier stay with drugs is on file. Where the run leaves the codes of this stay out, diagnoses is NULL and no
-- stay is left out for having none. current_drugs are those ordered by a prediction time within the stay.

SELECT
    admissions.subject_id,
    admissions.hadm_id,
    splits.split,
    admissions.admittime,
    admissions.dischtime,
    times.predict_time,
    admissions.anchor_year_group,
    admissions.age,
    admissions.sex,
    admissions.race,
    admissions.admission_type,
    measurements.height_cm,
    measurements.weight_kg,
    measurements.bmi,
    measurements.systolic_mmhg,
    measurements.diastolic_mmhg,
    measurements.height_age_days,
    measurements.weight_age_days,
    measurements.bmi_age_days,
    measurements.blood_pressure_age_days,
    labs.creatinine_mg_dl,
    labs.egfr,
    labs.potassium_meq_l,
    CASE WHEN settings.codes <> 'earlier' THEN diagnosis_lists.diagnoses END AS diagnoses,
    CASE WHEN settings.codes <> 'stay' THEN coalesce(earlier_diagnoses.earlier_diagnoses, []) END AS earlier_diagnoses,
    list_transform(list_filter(drug_lists.ordered, lambda o: o.due), lambda o: o.drug) AS drugs,
    CASE WHEN settings.predict_at = '24h' THEN
        list_transform(
            list_filter(drug_lists.ordered, lambda o: o.first_order <= times.predict_time), lambda o: o.drug
        )
    END AS current_drugs,
    history.previous_drugs
FROM admissions
CROSS JOIN settings
INNER JOIN prediction_times AS times USING (hadm_id)
INNER JOIN splits ON splits.subject_id = admissions.subject_id
INNER JOIN drug_lists USING (hadm_id)
LEFT JOIN diagnosis_lists USING (hadm_id)
LEFT JOIN earlier_diagnoses USING (hadm_id)
LEFT JOIN history USING (hadm_id)
LEFT JOIN labs USING (hadm_id)
LEFT JOIN measurements USING (hadm_id)
WHERE admissions.adult
    AND times.reached
    AND (settings.codes = 'earlier' OR diagnosis_lists.diagnoses IS NOT NULL)
    AND drugs <> []
ORDER BY admissions.subject_id, admissions.admittime, admissions.hadm_id
